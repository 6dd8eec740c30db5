#include "fsal/engine/statistics.h"

#include <algorithm>

#include "fsal/engine/format/label.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/fs/shared_volume.h"

namespace filer::engine {

EngineStatistics StatisticsOf(const SharedVolume& volume) {
  const StoreCounters store = volume.store->Counters();
  EngineStatistics statistics;
  statistics.format_version = kFormatVersion;
  statistics.mount_count = volume.store->MountEpoch();
  statistics.is_read_only = volume.options.read_only;
  statistics.device_bytes = volume.device.Info().size_bytes;
  statistics.log_bytes = volume.geometry.log_bytes;
  statistics.log_used_bytes = store.log_used_bytes;
  statistics.log_groups = store.groups;
  statistics.log_group_bytes = store.group_bytes;
  statistics.log_transactions = store.commits;
  statistics.commit = store.sync;
  statistics.checkpoints = store.checkpoints;
  statistics.checkpoint_ns = store.checkpoint_ns;
  statistics.checkpoint_last_ns = store.checkpoint_last_ns;
  statistics.checkpoint_max_ns = store.checkpoint_max_ns;
  statistics.recovered_groups = store.recovered_groups;
  statistics.data_cache_bytes = volume.counters.cached_bytes.load(std::memory_order_relaxed);
  statistics.data_cache_bytes_max =
      std::min<std::uint64_t>(volume.options.cache_bytes, volume.device.Pool().size_bytes() / 2);
  statistics.data_cache_hits = volume.counters.cache_hit_blocks.load(std::memory_order_relaxed);
  statistics.data_cache_misses = volume.counters.cache_miss_blocks.load(std::memory_order_relaxed);
  statistics.dirty_bytes = volume.counters.dirty_bytes.load(std::memory_order_relaxed);
  statistics.node_cache_bytes = store.cached_nodes * kNodeBytes;
  statistics.node_cache_bytes_max = store.cached_nodes_max * kNodeBytes;
  statistics.node_dirty_bytes = store.dirty_nodes * kNodeBytes;
  statistics.node_cache_misses = std::min(store.calls_that_read, store.calls);
  statistics.node_cache_hits = store.calls - statistics.node_cache_misses;
  statistics.metadata_bytes = store.node_units * kNodeBytes;
  statistics.metadata_free_bytes = store.free_node_units * kNodeBytes;
  return statistics;
}

}  // namespace filer::engine
