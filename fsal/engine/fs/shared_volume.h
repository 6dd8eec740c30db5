// shared_volume.h: what all filesets and snapshots of a mounted volume share: the device, the
// store, the space, the listeners, and the small services on them.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/clock.h"
#include "fsal/engine/alloc/block_allocator.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/fs/siphash.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// Counters of the parts, added up for EngineCounters. Relaxed: they order nothing.
struct VolumeCounters {
  std::atomic<std::uint64_t> reads{0}, read_bytes{0}, writes{0}, write_bytes{0}, commits{0};
  std::atomic<std::uint64_t> metadata_changes{0}, copied_read_bytes{0}, copied_write_bytes{0};
  std::atomic<std::uint64_t> cache_hit_blocks{0}, cache_miss_blocks{0};
  std::atomic<std::uint64_t> dirty_bytes{0}, cached_bytes{0}, inodes{0}, data_flushes{0};
};

// Of a fileset or (`snapshot` not 0) a snapshot.
std::uint64_t VolumeFsid(const StoreGeometry& geometry, std::uint32_t fileset,
                         std::uint32_t snapshot);

class SharedVolume {
 public:
  SharedVolume(BlockDevice& device, const Clock& clock, const MountOptions& options,
               std::unique_ptr<Store> store);

  // Waits until `lsn` is durable and lets go of blocks that were freed up to there.
  Result<void> Sync(Lsn lsn);
  // One device flush that starts after the call; concurrent callers share it. Nothing if the device
  // has no volatile cache.
  Result<void> FlushDevice();
  // Reserves blocks, waiting for pending frees to become durable if that helps.
  Result<void> ReserveBlocks(std::uint64_t count, bool is_privileged);
  void NotifyChange(std::initializer_list<Engine::Change> changes) const;
  // Wakes the background thread when it sleeps without a deadline.
  void WakeBackground();
  WriteVerifier Verifier() const;
  void ChangeVerifier();  // unstable data may have been lost

  BlockDevice& device;
  const Clock& clock;
  const MountOptions options;
  const std::unique_ptr<Store> store;
  const StoreGeometry geometry;
  SipKey key{};
  BlockAllocator allocator;
  VolumeCounters counters;
  std::atomic<std::uint64_t> next_stamp{1};
  // The background thread's alarm.
  std::mutex background_mutex;
  std::condition_variable background_wake;
  std::atomic<bool> has_background_work{false};

  mutable std::mutex listener_mutex;
  std::array<std::shared_ptr<const Engine::ChangeListener>, kDoorsMax + 1> listeners;
  std::atomic<std::uint32_t> listener_count{0};

 private:
  std::atomic<std::uint64_t> verifier_salt_{0};

  // Shared device flushes: a caller needs one that started after it came.
  std::mutex flush_mutex_;
  std::condition_variable flush_done_;
  std::uint64_t flushes_started_ = 0;
  std::uint64_t flushes_done_ = 0;
  bool is_flushing_ = false;
  std::uint64_t failed_flush_ = 0;  // the last that failed
};

EngineStatistics StatisticsOf(const SharedVolume& volume);  // statistics.cc

}  // namespace filer::engine
