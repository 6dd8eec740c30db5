#include "host-bridge/initiator/virtio_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/units.h"

namespace filer::bridge {

namespace {
constexpr std::uint32_t kQueueSizeMax = 1024;
constexpr std::uint32_t kTableSegmentsMax =
    126;  // with header and status an indirect table of 2 KiB
constexpr std::uint64_t kRangeBytesMax = 1ULL << 30;
constexpr std::uint64_t kCapacityMax = 1ULL << 53;  // sectors

std::uint64_t RangeLimit(std::uint32_t sectors_max) {
  if (sectors_max == 0) return kRangeBytesMax;
  return std::min<std::uint64_t>(std::uint64_t{sectors_max} * kSectorBytes, kRangeBytesMax);
}
}  // namespace

Result<std::uint64_t> ChooseFeatures(std::uint64_t offered, RingFormat ring) {
  constexpr std::uint64_t kWanted =
      virtio::kBlockSegmentSizeMax | virtio::kBlockSegmentsMax | virtio::kBlockReadOnly |
      virtio::kBlockBlockSize | virtio::kBlockFlush | virtio::kBlockMultiQueue |
      virtio::kBlockDiscard | virtio::kBlockWriteZeroes | virtio::kFeatureRingIndirect |
      virtio::kFeatureRingEventIndex | virtio::kFeatureVersion1 | virtio::kFeatureAccessPlatform;
  if ((offered & virtio::kFeatureVersion1) == 0) {
    return Error(Errc::kNotSupported, "the device speaks only the legacy virtio protocol");
  }
  if (ring == RingFormat::kSplit) return offered & kWanted;
  if ((offered & virtio::kFeatureRingPacked) == 0) {
    return Error(Errc::kNotSupported, "the device has no packed rings");
  }
  return offered & (kWanted | virtio::kFeatureRingPacked);
}

Result<DiskInfo> ReadDiskInfo(std::uint64_t features, const virtio::BlockConfig& config,
                              const DiskOptions& options, std::uint32_t queue_count_max) {
  if (options.queue_count == 0 || !std::has_single_bit(options.queue_size) ||
      options.queue_size < 4 || options.arena_bytes == 0) {
    return Error(Errc::kInvalidArgument, "a disk needs a queue, a power of two and an arena");
  }
  const std::uint64_t capacity = config.capacity_sectors;
  if (capacity == 0 || capacity > kCapacityMax) {
    return Error(Errc::kProtocol, fmt::format("the device claims {} sectors", capacity));
  }
  DiskInfo info;
  info.size_bytes = capacity * kSectorBytes;
  info.is_read_only = (features & virtio::kBlockReadOnly) != 0;
  info.has_flush = (features & virtio::kBlockFlush) != 0;
  info.can_discard = (features & virtio::kBlockDiscard) != 0;
  info.can_write_zeroes = (features & virtio::kBlockWriteZeroes) != 0;
  if (info.can_discard) info.discard_bytes_max = RangeLimit(config.discard_sectors_max);
  if (info.can_write_zeroes) {
    info.write_zeroes_bytes_max = RangeLimit(config.write_zeroes_sectors_max);
  }
  if ((features & virtio::kBlockBlockSize) != 0) {
    const std::uint32_t block = config.block_bytes;
    if (!std::has_single_bit(block) || block < kSectorBytes || block > (1 << 20)) {
      return Error(Errc::kProtocol, fmt::format("the device claims blocks of {} bytes", block));
    }
    info.logical_block_bytes = block;
  }
  if ((features & virtio::kBlockSegmentsMax) != 0) {
    info.segments_max = std::clamp<std::uint32_t>(config.segments_max, 1, kTableSegmentsMax);
  }
  const std::uint32_t offered_queues =
      (features & virtio::kBlockMultiQueue) != 0 ? std::uint32_t{config.queue_count} : 1;
  info.queue_count = std::max(1U, std::min({options.queue_count, offered_queues, queue_count_max}));
  info.queue_size = std::min(options.queue_size, kQueueSizeMax);
  return info;
}

DriverQueueOptions QueueOptions(std::uint64_t features, const virtio::BlockConfig& config,
                                const DiskInfo& info, std::uint32_t queue_index) {
  DriverQueueOptions options;
  options.queue_index = queue_index;
  options.queue_size = info.queue_size;
  options.has_indirect = (features & virtio::kFeatureRingIndirect) != 0;
  options.has_event_index = (features & virtio::kFeatureRingEventIndex) != 0;
  options.is_packed = (features & virtio::kFeatureRingPacked) != 0;
  options.segments_max = info.segments_max;
  if (!options.has_indirect) {
    options.segments_max = std::min(options.segments_max, info.queue_size - 2);
  }
  if ((features & virtio::kBlockSegmentSizeMax) != 0 && config.segment_bytes_max != 0) {
    options.segment_bytes_max = config.segment_bytes_max;
  }
  return options;
}

DiskQueue& VirtioDisk::Queue(std::uint32_t index) {
  FILER_ASSERT(index < queues_.size());
  return *queues_[index];
}

DiskInfo VirtioDisk::Info() const {
  DiskInfo info = info_;
  info.size_bytes = size_bytes_.load(std::memory_order_relaxed);
  return info;
}

void VirtioDisk::NoteCapacity(std::uint64_t capacity_sectors) const {
  if (capacity_sectors > kCapacityMax) return;
  const std::uint64_t size_bytes = capacity_sectors * kSectorBytes;
  std::uint64_t before = size_bytes_.load(std::memory_order_relaxed);
  while (size_bytes > before && !size_bytes_.compare_exchange_weak(before, size_bytes)) {
  }
}

DiskCounters VirtioDisk::Counters() const {
  DiskCounters sum;
  for (const auto& queue : queues_) {
    const DiskCounters one = queue->Counters();
    sum.requests += one.requests;
    sum.read_bytes += one.read_bytes;
    sum.write_bytes += one.write_bytes;
    sum.doorbells += one.doorbells;
  }
  return sum;
}

Result<void> VirtioDisk::Allocate(std::uint64_t features, const virtio::BlockConfig& config,
                                  const DiskOptions& options, std::uint32_t queue_count_max) {
  const std::string transport = std::move(info_.transport);
  info_ = FILER_TRY(ReadDiskInfo(features, config, options, queue_count_max));
  info_.transport = transport;
  size_bytes_.store(info_.size_bytes, std::memory_order_relaxed);
  const std::uint64_t ring_bytes =
      DriverQueue::MemoryBytes(QueueOptions(features, config, info_, 0)) * info_.queue_count;
  memory_ = FILER_TRY(DmaMemory::Allocate(ring_bytes, RoundDown(options.arena_bytes, 1 << 20)));
  return Ok();
}

void VirtioDisk::MakeQueues(std::uint64_t features, const virtio::BlockConfig& config) {
  FILER_ASSERT(queues_.empty() && map_ != nullptr);
  for (std::uint32_t i = 0; i < info_.queue_count; ++i) {
    queues_.push_back(std::make_unique<DriverQueue>(QueueOptions(features, config, info_, i),
                                                    *memory_, *map_,
                                                    static_cast<QueueEvents&>(*this)));
  }
}

void VirtioDisk::BreakAllQueues() {
  for (const auto& queue : queues_) queue->Break();
}

}  // namespace filer::bridge
