#include "fsal/engine-control/volume_methods.h"

#include <fmt/format.h>

#include <algorithm>

namespace filer::control {
namespace {

double Double(std::uint64_t value) { return static_cast<double>(value); }
double Milliseconds(std::uint64_t ns) { return Double(ns) / 1e6; }

double Ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : Double(part) / Double(whole);
}

// Null where nothing was asked for: neither good nor bad.
Json Rate(std::uint64_t hits, std::uint64_t misses) {
  if (hits + misses == 0) return nullptr;
  return Ratio(hits, hits + misses);
}

Json LatencyJson(const LatencySummary& latency) {
  return {{"count", latency.count},
          {"p50", Double(latency.p50_ns) / 1e3},
          {"p99", Double(latency.p99_ns) / 1e3},
          {"max", Double(latency.max_ns) / 1e3}};
}

}  // namespace

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
          {"inodes", counters.inodes},
          {"quota_limited_ids", counters.quota_limited_ids},
          {"quota_refusals", counters.quota_refusals}};
}

std::string UuidText(const engine::Engine& engine) {
  std::string text;
  for (const std::uint8_t byte : engine.VolumeUuid()) text += fmt::format("{:02x}", byte);
  return text;
}

Json ToJson(const engine::EngineStatistics& of) {
  return {
      {"commit_latency_us", LatencyJson(of.commit)},
      {"log",
       {{"bytes", of.log_bytes},
        {"used_bytes", of.log_used_bytes},
        {"groups", of.log_groups},
        {"group_bytes", of.log_group_bytes},
        {"transactions", of.log_transactions},
        {"transactions_per_group", Ratio(of.log_transactions, of.log_groups)}}},
      {"checkpoints",
       {{"count", of.checkpoints},
        {"mean_ms", Milliseconds(of.checkpoint_ns) / std::max(1.0, Double(of.checkpoints))},
        {"last_ms", Milliseconds(of.checkpoint_last_ns)},
        {"max_ms", Milliseconds(of.checkpoint_max_ns)}}},
      {"mount",
       {{"count", of.mount_count},
        {"read_only", of.is_read_only},
        {"recovered_groups", of.recovered_groups},
        {"ms", Milliseconds(static_cast<std::uint64_t>(std::max<std::int64_t>(0, of.mount_ns)))}}},
      {"data_cache",
       {{"bytes", of.data_cache_bytes},
        {"bytes_max", of.data_cache_bytes_max},
        {"dirty_bytes", of.dirty_bytes},
        {"hits", of.data_cache_hits},
        {"misses", of.data_cache_misses},
        {"hit_rate", Rate(of.data_cache_hits, of.data_cache_misses)}}},
      {"node_cache",
       {{"bytes", of.node_cache_bytes},
        {"bytes_max", of.node_cache_bytes_max},
        {"dirty_bytes", of.node_dirty_bytes},
        {"hits", of.node_cache_hits},
        {"misses", of.node_cache_misses},
        {"hit_rate", Rate(of.node_cache_hits, of.node_cache_misses)}}}};
}

Json DescribeVolume(engine::Engine& engine) {
  const engine::EngineStatistics statistics = engine.Statistics();
  const auto health = engine.Health();
  Json volume = {{"name", engine.VolumeName()},
                 {"uuid", UuidText(engine)},
                 {"format_version", statistics.format_version},
                 {"size_bytes", statistics.device_bytes},
                 {"files", engine.Counters().inodes},
                 {"health",
                  {{"ok", health.has_value()},
                   {"error", health.has_value() ? "" : health.assume_error().message()}}}};
  if (const auto space = engine.GetStatus()) {
    volume["space"] = {{"total_bytes", space.value().total_bytes},
                       {"used_bytes", space.value().total_bytes - space.value().free_bytes},
                       {"free_bytes", space.value().free_bytes},
                       {"available_bytes", space.value().available_bytes},
                       {"metadata_bytes", statistics.metadata_bytes},
                       {"metadata_free_bytes", statistics.metadata_free_bytes}};
  }
  volume.update(ToJson(statistics));
  return volume;
}

Result<Json> ShowVolume(engine::Engine& engine, const Params&) { return DescribeVolume(engine); }

}  // namespace filer::control
