// virtio_disk.h: what all transports share: the choice of features, the reading of the
// configuration space, and a Disk's queues and memory.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "host-bridge/initiator/address_map.h"
#include "host-bridge/initiator/dma_memory.h"
#include "host-bridge/initiator/driver_queue.h"
#include "host-bridge/initiator/initiator.h"
#include "host-bridge/virtio/block.h"

namespace filer::bridge {

// Configuration space up to and with the write-zeroes fields: all that we read, and what every
// device has.
inline constexpr std::size_t kConfigBytes = 60;

// Those of `offered` that this driver uses. Errors: kNotSupported without VERSION_1.
Result<std::uint64_t> ChooseFeatures(std::uint64_t offered, RingFormat ring);

// Facts about the disk, with queue_count and queue_size cut to what `options` and `queue_count_max`
// allow. Everything in `config` is foreign: nonsense is kProtocol.
Result<DiskInfo> ReadDiskInfo(std::uint64_t features, const virtio::BlockConfig& config,
                              const DiskOptions& options, std::uint32_t queue_count_max);

// `config` serves the size limits of segments.
DriverQueueOptions QueueOptions(std::uint64_t features, const virtio::BlockConfig& config,
                                const DiskInfo& info, std::uint32_t queue_index);

class VirtioDisk : public Disk, protected QueueEvents {
 public:
  DiskInfo Info() const override;
  std::span<std::byte> Arena() final { return memory_->arena(); }
  DiskQueue& Queue(std::uint32_t index) final;
  DiskCounters Counters() const override;

 protected:
  VirtioDisk() = default;
  // Sets info_ and memory_.
  Result<void> Allocate(std::uint64_t features, const virtio::BlockConfig& config,
                        const DiskOptions& options, std::uint32_t queue_count_max);
  // Sets queues_, once map_ is known.
  void MakeQueues(std::uint64_t features, const virtio::BlockConfig& config);
  void BreakAllQueues();
  // What a configuration read later says; a disk never becomes smaller.
  void NoteCapacity(std::uint64_t capacity_sectors) const;

  DiskInfo info_;  // but for its size_bytes: that of the beginning
  mutable std::atomic<std::uint64_t> size_bytes_{0};
  std::unique_ptr<DmaMemory> memory_;
  std::unique_ptr<AddressMap> map_;
  std::vector<std::unique_ptr<DriverQueue>> queues_;
};

}  // namespace filer::bridge
