#include "fsal/engine/device/bridge_device.h"

#include <fmt/format.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#include "base/assert.h"
#include "base/thread_annotations.h"
#include "base/units.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {
namespace {

using bridge::Disk;
using bridge::DiskCompletion;
using bridge::DiskOperation;
using bridge::DiskQueue;
using bridge::DiskRequest;

constexpr std::size_t kBatch = 32;
constexpr std::uint32_t kYieldsBeforeSleep = 64;
constexpr long kSleepNs = 20'000;

DiskOperation OperationOf(BlockOperation operation) {
  switch (operation) {
    case BlockOperation::kRead:
      return DiskOperation::kRead;
    case BlockOperation::kWrite:
      return DiskOperation::kWrite;
    case BlockOperation::kFlush:
      return DiskOperation::kFlush;
    case BlockOperation::kDiscard:
      return DiskOperation::kDiscard;
    case BlockOperation::kWriteZeroes:
      return DiskOperation::kWriteZeroes;
  }
  return DiskOperation::kFlush;
}

std::uint32_t ThreadNumber() {
  static std::atomic<std::uint32_t> next{0};
  thread_local const std::uint32_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

class BridgeDevice final : public BlockDevice {
 public:
  explicit BridgeDevice(std::unique_ptr<Disk> disk)
      : disk_(std::move(disk)), disk_info_(disk_->Info()), pool_(disk_->Arena()) {
    info_ = {.size_bytes = RoundDown(disk_info_.size_bytes, kBlockBytes),
             .is_read_only = disk_info_.is_read_only,
             .has_volatile_cache = disk_info_.has_flush,
             .can_discard = disk_info_.can_discard,
             .depth_max = disk_info_.queue_count * disk_info_.queue_size};
    for (std::uint32_t i = 0; i < disk_info_.queue_count; ++i) {
      queues_.push_back(std::make_unique<Lane>(disk_->Queue(i), disk_info_.queue_size));
    }
  }

  DeviceInfo Info() const override { return info_; }
  BufferPool& Pool() override { return pool_; }

  Result<void> Submit(BlockRequest& request) override {
    FILER_TRY(CheckRequest(request, info_, pool_));
    if (request.operation == BlockOperation::kDiscard && !disk_info_.can_discard) {
      return Errc::kNotSupported;
    }
    if (request.operation == BlockOperation::kWriteZeroes && !disk_info_.can_write_zeroes) {
      return Errc::kNotSupported;
    }
    Lane& lane = MyLane();
    MutexLock lock(lane.mutex);
    if (lane.free_slots.empty()) return Errc::kWouldBlock;
    const std::uint32_t index = lane.free_slots.back();
    FILER_TRY(Start(lane, index, request, 0));
    lane.free_slots.pop_back();
    lane.queue.Publish();
    return Ok();
  }

  std::uint32_t Poll(std::uint32_t completions_max) override {
    const std::size_t mine = ThreadNumber() % queues_.size();
    std::uint32_t count = PollLane(*queues_[mine], completions_max, true);
    for (std::size_t i = 1; i < queues_.size() && count < completions_max; ++i) {
      count += PollLane(*queues_[(mine + i) % queues_.size()], completions_max - count, false);
    }
    if (count != 0) empty_relaxes_.store(0, std::memory_order_relaxed);
    return count;
  }

  void Relax() override {
    // A hint only: threads may overwrite each other's count.
    const std::uint32_t empty = empty_relaxes_.load(std::memory_order_relaxed);
    if (empty < kYieldsBeforeSleep) {
      empty_relaxes_.store(empty + 1, std::memory_order_relaxed);
      ::sched_yield();
      return;
    }
    const timespec pause = {0, kSleepNs};
    ::nanosleep(&pause, nullptr);
  }

 private:
  struct Slot {
    BlockRequest* request = nullptr;
    std::uint64_t done_bytes = 0;  // kDiscard, kWriteZeroes: parts that are done
    std::uint64_t part_bytes = 0;
  };
  struct Lane {
    Lane(DiskQueue& queue_in, std::uint32_t size) : queue(queue_in) {
      slots.resize(size);
      for (std::uint32_t i = size; i > 0; --i) free_slots.push_back(i - 1);
    }
    Mutex mutex;
    DiskQueue& queue;  // used under mutex
    std::vector<Slot> slots FILER_GUARDED_BY(mutex);
    std::vector<std::uint32_t> free_slots FILER_GUARDED_BY(mutex);
  };
  struct Finished {
    BlockRequest* request;
    bool is_ok;
    Errc status;
  };

  Lane& MyLane() { return *queues_[ThreadNumber() % queues_.size()]; }

  std::uint64_t PartLimit(BlockOperation operation) const {
    if (operation == BlockOperation::kDiscard) return disk_info_.discard_bytes_max;
    if (operation == BlockOperation::kWriteZeroes) return disk_info_.write_zeroes_bytes_max;
    return UINT64_MAX;
  }

  // Prepares the part of `request` that begins at done_bytes.
  Result<void> Start(Lane& lane, std::uint32_t index, BlockRequest& request,
                     std::uint64_t done_bytes) FILER_REQUIRES(lane.mutex) {
    const std::uint64_t part_bytes =
        std::min(request.length_bytes - done_bytes, PartLimit(request.operation));
    FILER_TRY(lane.queue.Prepare({.operation = OperationOf(request.operation),
                                  .offset_bytes = request.offset_bytes + done_bytes,
                                  .length_bytes = part_bytes,
                                  .segments = request.segments,
                                  .cookie = index}));
    lane.slots[index] = {&request, done_bytes, part_bytes};
    return Ok();
  }

  // Takes completions under the lock, delivers them without it.
  std::uint32_t PollLane(Lane& lane, std::uint32_t completions_max, bool must_look) {
    std::array<Finished, kBatch> finished;
    std::uint32_t delivered = 0;
    while (delivered < completions_max) {
      const std::size_t wanted = std::min<std::size_t>(kBatch, completions_max - delivered);
      const std::size_t count = Take(lane, std::span(finished).first(wanted), must_look);
      for (std::size_t i = 0; i < count; ++i) {
        FinishRequest(*finished[i].request, finished[i].is_ok, finished[i].status);
      }
      delivered += static_cast<std::uint32_t>(count);
      if (count < wanted) break;
    }
    return delivered;
  }

  std::size_t Take(Lane& lane, std::span<Finished> finished,
                   bool must_look) FILER_NO_THREAD_SAFETY_ANALYSIS {
    if (must_look) {
      lane.mutex.lock();
    } else if (!lane.mutex.try_lock()) {
      return 0;  // whoever holds it is looking
    }
    std::array<DiskCompletion, kBatch> completions;
    const std::size_t taken = lane.queue.Poll(std::span(completions).first(finished.size()));
    std::size_t count = 0;
    for (std::size_t i = 0; i < taken; ++i) {
      if (Account(lane, completions[i], finished[count])) ++count;
    }
    lane.queue.Publish();  // next parts of long requests; nothing else is prepared
    lane.mutex.unlock();
    return count;
  }

  // True when the request is over; otherwise its next part was prepared.
  bool Account(Lane& lane, const DiskCompletion& completion, Finished& finished)
      FILER_REQUIRES(lane.mutex) {
    FILER_ASSERT(completion.cookie < lane.slots.size());  // ours: the queue keeps it private
    const auto index = static_cast<std::uint32_t>(completion.cookie);
    const Slot slot = lane.slots[index];
    FILER_ASSERT(slot.request != nullptr);
    finished = {slot.request, completion.is_ok, completion.status};
    const std::uint64_t done_bytes = slot.done_bytes + slot.part_bytes;
    if (completion.is_ok && done_bytes < slot.request->length_bytes &&
        PartLimit(slot.request->operation) != UINT64_MAX) {
      auto started = Start(lane, index, *slot.request, done_bytes);
      if (started.has_value()) return false;
      finished = {slot.request, false, started.error().code()};
    }
    lane.slots[index].request = nullptr;
    lane.free_slots.push_back(index);
    return true;
  }

  std::unique_ptr<Disk> disk_;
  const bridge::DiskInfo disk_info_;
  DeviceInfo info_;
  BufferPool pool_;  // in the disk's arena: goes first
  std::vector<std::unique_ptr<Lane>> queues_;
  std::atomic<std::uint32_t> empty_relaxes_{0};
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> MakeBridgeDevice(std::unique_ptr<bridge::Disk> disk) {
  const bridge::DiskInfo info = disk->Info();
  if (info.segments_max < kRequestSegmentsMax) {
    return Error(Errc::kNotSupported,
                 fmt::format("the bridge takes {} segments per request, {} are "
                             "needed: give the device longer queues",
                             info.segments_max, kRequestSegmentsMax));
  }
  if (info.size_bytes < kBlockBytes || info.logical_block_bytes > kBlockBytes) {
    return Error(Errc::kNotSupported,
                 "the volume behind the bridge is too small or its blocks are "
                 "larger than 4096 bytes");
  }
  return std::unique_ptr<BlockDevice>(std::make_unique<BridgeDevice>(std::move(disk)));
}

}  // namespace filer::engine
