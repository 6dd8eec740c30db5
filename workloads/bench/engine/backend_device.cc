#include "workloads/bench/engine/backend_device.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "base/thread_annotations.h"
#include "fsal/engine/device/arena.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::bench {
namespace {

using engine::BlockOperation;
using engine::BlockRequest;

constexpr std::uint32_t kDepthMax = 128;
constexpr std::size_t kBatch = 32;
constexpr std::uint32_t kYieldsBeforeSleep = 64;
constexpr long kSleepNs = 20'000;

bridge::BackendOperation OperationOf(BlockOperation operation) {
  switch (operation) {
    case BlockOperation::kRead:
      return bridge::BackendOperation::kRead;
    case BlockOperation::kWrite:
      return bridge::BackendOperation::kWrite;
    case BlockOperation::kDiscard:
      return bridge::BackendOperation::kDiscard;
    case BlockOperation::kWriteZeroes:
      return bridge::BackendOperation::kWriteZeroes;
    case BlockOperation::kFlush:
      break;
  }
  return bridge::BackendOperation::kFlush;
}

class BackendDevice final : public engine::BlockDevice {
 public:
  BackendDevice(std::unique_ptr<bridge::Backend> backend,
                std::unique_ptr<bridge::BackendQueue> queue, engine::Arena arena)
      : backend_(std::move(backend)),
        queue_(std::move(queue)),
        arena_(std::move(arena)),
        pool_(arena_.bytes()) {
    const bridge::BackendInfo info = backend_->Info();
    info_ = {.size_bytes = info.size_bytes,
             .is_read_only = info.is_read_only,
             .has_volatile_cache = info.has_volatile_cache,
             .can_discard = info.can_discard,
             .depth_max = kDepthMax};
  }

  engine::DeviceInfo Info() const override { return info_; }
  engine::BufferPool& Pool() override { return pool_; }

  Result<void> Submit(BlockRequest& request) override {
    FILER_TRY(engine::CheckRequest(request, info_, pool_));
    bridge::BackendRequest asked{};
    asked.operation = OperationOf(request.operation);
    asked.offset_bytes = request.offset_bytes;
    asked.length_bytes = request.length_bytes;
    asked.segments = request.segments;
    asked.cookie = reinterpret_cast<std::uintptr_t>(&request);
    MutexLock lock(mutex_);
    if (!queue_->Queue(asked)) return Errc::kWouldBlock;
    queue_->Kick();
    return Ok();
  }

  std::uint32_t Poll(std::uint32_t completions_max) override {
    std::array<bridge::BackendCompletion, kBatch> completions;
    std::size_t count = 0;
    {
      MutexLock lock(mutex_);
      queue_->Kick();  // what the backend itself had to do again
      count = queue_->Poll(
          std::span(completions).first(std::min<std::size_t>(kBatch, completions_max)));
    }
    for (std::size_t i = 0; i < count; ++i) {
      auto* request = reinterpret_cast<BlockRequest*>(completions[i].cookie);
      engine::FinishRequest(*request, completions[i].is_ok, Errc::kIo);
    }
    if (count != 0) empty_relaxes_.store(0, std::memory_order_relaxed);
    return static_cast<std::uint32_t>(count);
  }

  // As the engine's device on the bridge waits: threads may overwrite each other's count.
  void Relax() override {
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
  std::unique_ptr<bridge::Backend> backend_;
  Mutex mutex_;
  std::unique_ptr<bridge::BackendQueue> queue_;  // used under mutex_
  engine::Arena arena_;
  engine::BufferPool pool_;
  engine::DeviceInfo info_;
  std::atomic<std::uint32_t> empty_relaxes_{0};
};

}  // namespace

Result<std::unique_ptr<engine::BlockDevice>> MakeBackendDevice(
    std::unique_ptr<bridge::Backend> backend, std::uint64_t pool_bytes) {
  auto queue = FILER_TRY(backend->OpenQueue(kDepthMax));
  auto arena = FILER_TRY(engine::Arena::Map(pool_bytes));
  const iovec memory = {arena.bytes().data(), arena.bytes().size()};
  queue->SetMemory({&memory, 1});
  return std::unique_ptr<engine::BlockDevice>(
      std::make_unique<BackendDevice>(std::move(backend), std::move(queue), std::move(arena)));
}

}  // namespace filer::bench
