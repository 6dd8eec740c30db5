#include "fsal/engine-control/volume_methods.h"

#include <fmt/format.h>

namespace filer::control {

Json ToJson(const engine::EngineCounters& counters) {
  return {{"reads", counters.reads},
          {"read_bytes", counters.read_bytes},
          {"writes", counters.writes},
          {"write_bytes", counters.write_bytes},
          {"commits", counters.commits},
          {"metadata_changes", counters.metadata_changes},
          {"copied_read_bytes", counters.copied_read_bytes},
          {"copied_write_bytes", counters.copied_write_bytes},
          {"cache_hit_blocks", counters.cache_hit_blocks},
          {"cache_miss_blocks", counters.cache_miss_blocks},
          {"dirty_bytes", counters.dirty_bytes},
          {"cached_bytes", counters.cached_bytes},
          {"log_groups", counters.log_groups},
          {"log_transactions", counters.log_transactions},
          {"checkpoints", counters.checkpoints},
          {"recovered_groups", counters.recovered_groups},
          {"free_blocks", counters.free_blocks},
          {"inodes", counters.inodes}};
}

std::string UuidText(const engine::Engine& engine) {
  std::string text;
  for (const std::uint8_t byte : engine.VolumeUuid()) text += fmt::format("{:02x}", byte);
  return text;
}

Result<Json> ShowVolume(engine::Engine& engine, const Params&) {
  const engine::FileSystemStatus space = FILER_TRY(engine.GetStatus());
  const auto health = engine.Health();
  return Json{{"name", engine.VolumeName()},
              {"uuid", UuidText(engine)},
              {"health",
               {{"ok", health.has_value()},
                {"error", health.has_value() ? "" : health.assume_error().message()}}},
              {"space",
               {{"total_bytes", space.total_bytes},
                {"used_bytes", space.total_bytes - space.free_bytes},
                {"free_bytes", space.free_bytes},
                {"available_bytes", space.available_bytes}}},
              {"files", engine.Counters().inodes}};
}

}  // namespace filer::control
