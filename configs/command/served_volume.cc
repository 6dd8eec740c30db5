#include "configs/command/served_volume.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/process.h"
#include "configs/command/applied.h"
#include "configs/command/console.h"

namespace filer::command {
namespace {

// "97.5%", or "-" where nothing was asked for.
std::string PercentAt(const Json& json, const std::string& pointer) {
  const Json::json_pointer place(pointer);
  if (!json.contains(place) || !json.at(place).is_number()) return "-";
  return fmt::format("{:.1f}%", 100 * json.at(place).get<double>());
}

std::string BytesAt(const Json& json, const std::string& pointer) {
  return HumanBytes(CountAt(json, pointer));
}

std::string LogText(const Json& volume) {
  return fmt::format("{} of {}", BytesAt(volume, "/log/used_bytes"), BytesAt(volume, "/log/bytes"));
}

std::string CommitText(const Json& volume) {
  if (CountAt(volume, "/commit_latency_us/count") == 0) return "none yet";
  return fmt::format("p50 {:.0f} us, p99 {:.0f} us, {:.1f} per log write",
                     NumberAt(volume, "/commit_latency_us/p50"),
                     NumberAt(volume, "/commit_latency_us/p99"),
                     NumberAt(volume, "/log/transactions_per_group"));
}

std::string CheckpointText(const Json& volume) {
  if (CountAt(volume, "/checkpoints/count") == 0) return "none yet";
  return fmt::format(
      "{}, the last took {:.0f} ms, the longest {:.0f} ms", CountAt(volume, "/checkpoints/count"),
      NumberAt(volume, "/checkpoints/last_ms"), NumberAt(volume, "/checkpoints/max_ms"));
}

std::string CacheText(const Json& volume, const std::string& cache) {
  return fmt::format("{} of {}, hit rate {}", BytesAt(volume, cache + "/bytes"),
                     BytesAt(volume, cache + "/bytes_max"), PercentAt(volume, cache + "/hit_rate"));
}

}  // namespace

Result<std::optional<ServedVolume>> FindServed(const Home& home, const VolumeOptions& options) {
  const auto state = FILER_TRY(LoadState(home));
  if (!state.has_value() || !IsRunning(state->filer)) return std::optional<ServedVolume>();
  const configs::ApplianceConfig config = FILER_TRY(AppliedOf(home, *state));
  // The engine serves the first one (filer_side.cc).
  if (config.volumes.empty() || config.volumes.front().name != options.name) {
    return std::optional<ServedVolume>();
  }
  const configs::VolumeConfig& volume = config.volumes.front();
  std::error_code error;
  if (!options.path.empty() && !std::filesystem::equivalent(options.path, volume.path, error)) {
    return std::optional<ServedVolume>();  // another one of that name
  }
  return std::optional<ServedVolume>(ServedVolume{*state, volume});
}

Result<ServedVolume> RequireServed(const Home& home, const VolumeOptions& options) {
  auto served = FILER_TRY(FindServed(home, options));
  if (served.has_value()) return std::move(*served);
  return Error(Errc::kNotRunning,
               fmt::format("volume {}: no running filer of {} serves it", options.name, home.root));
}

double NumberAt(const Json& json, const std::string& pointer) {
  const Json::json_pointer place(pointer);
  return json.contains(place) && json.at(place).is_number() ? json.at(place).get<double>() : 0;
}

std::uint64_t CountAt(const Json& json, const std::string& pointer) {
  const Json::json_pointer place(pointer);
  return json.contains(place) && json.at(place).is_number_unsigned()
             ? json.at(place).get<std::uint64_t>()
             : 0;
}

std::string TextAt(const Json& json, const std::string& pointer) {
  const Json::json_pointer place(pointer);
  return json.contains(place) && json.at(place).is_string() ? json.at(place).get<std::string>()
                                                            : "";
}

std::vector<std::vector<std::string>> VolumeRows(const Json& volume, bool is_served) {
  const std::string trouble = TextAt(volume, "/health/error");
  std::vector<std::vector<std::string>> rows = {
      {"format", fmt::format("version {}", CountAt(volume, "/format_version"))},
      {"health", trouble.empty() ? "ok" : trouble},
      {"used", fmt::format("{} of {}", BytesAt(volume, "/space/used_bytes"),
                           BytesAt(volume, "/space/total_bytes"))},
      {"free", fmt::format("{}, {} of it for users", BytesAt(volume, "/space/free_bytes"),
                           BytesAt(volume, "/space/available_bytes"))},
      {"files", std::to_string(CountAt(volume, "/files"))},
      {"metadata", fmt::format("{} free of {}", BytesAt(volume, "/space/metadata_free_bytes"),
                               BytesAt(volume, "/space/metadata_bytes"))}};
  const std::uint64_t mounts = CountAt(volume, "/mount/count");
  const std::uint64_t groups = CountAt(volume, "/mount/recovered_groups");
  if (!is_served) {
    rows.push_back({"log", BytesAt(volume, "/log/bytes")});
    rows.push_back(
        {"mounts", fmt::format("{}; {} log groups to recover at the next", mounts, groups)});
    return rows;
  }
  rows.push_back({"log", LogText(volume)});
  rows.push_back({"commits", CommitText(volume)});
  rows.push_back({"checkpoints", CheckpointText(volume)});
  rows.push_back({"mount", fmt::format("number {}, {} log groups recovered, {:.0f} ms", mounts,
                                       groups, NumberAt(volume, "/mount/ms"))});
  rows.push_back({"data cache", CacheText(volume, "/data_cache")});
  rows.push_back({"node cache", CacheText(volume, "/node_cache")});
  return rows;
}

std::string StatisticsText(const Json& engine) {
  const Json::json_pointer place("/statistics");
  if (!engine.contains(place) || !engine.at(place).is_object()) return "";
  const Json& statistics = engine.at(place);
  return fmt::format(
      "engine: {} files, commits {}; log {}\n"
      "        checkpoints {}; hit rate of data {}, of nodes {}\n",
      CountAt(engine, "/counters/inodes"), CommitText(statistics), LogText(statistics),
      CheckpointText(statistics), PercentAt(statistics, "/data_cache/hit_rate"),
      PercentAt(statistics, "/node_cache/hit_rate"));
}

}  // namespace filer::command
