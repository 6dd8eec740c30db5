// statistics.h: how a mounted volume does, for whoever operates it. Counts since the mount.
#pragma once

#include <cstdint>

#include "base/latency.h"

namespace filer::engine {

struct EngineStatistics {
  std::uint32_t format_version = 0;
  std::uint64_t mount_count = 0;  // in the life of the volume, this one included
  bool is_read_only = false;
  std::uint64_t device_bytes = 0;

  std::uint64_t log_bytes = 0, log_used_bytes = 0;
  std::uint64_t log_groups = 0, log_group_bytes = 0, log_transactions = 0;
  LatencySummary commit;  // how long callers waited for their changes to be durable

  std::uint64_t checkpoints = 0;
  std::uint64_t checkpoint_ns = 0, checkpoint_last_ns = 0, checkpoint_max_ns = 0;

  // Of this mount: what the log held, and how long it took until the volume was served.
  std::uint64_t recovered_groups = 0;
  std::int64_t mount_ns = 0;

  std::uint64_t data_cache_bytes = 0, data_cache_bytes_max = 0;
  std::uint64_t data_cache_hits = 0, data_cache_misses = 0;  // blocks
  std::uint64_t dirty_bytes = 0;
  std::uint64_t node_cache_bytes = 0, node_cache_bytes_max = 0, node_dirty_bytes = 0;
  std::uint64_t node_cache_hits = 0, node_cache_misses = 0;  // calls that had to read none, some

  std::uint64_t metadata_bytes = 0, metadata_free_bytes = 0;  // of the region for nodes
};

}  // namespace filer::engine
