#include <algorithm>
#include <bit>
#include <thread>

#include "base/units.h"
#include "fsal/engine/fs/file_data.h"

namespace filer::engine {
namespace {
constexpr int kAttemptsMax = 20'000;  // with about 1 ms each at the end: readers that never let go
}

BufferSource::BufferSource(SharedVolume& volume)
    : volume_(volume),
      cache_bytes_max_(std::min<std::uint64_t>(volume.options.cache_bytes,
                                               volume.device.Pool().size_bytes() / 2)) {}

Result<BufferRef> BufferSource::Zeroes() {
  const std::lock_guard lock(mutex_);
  if (zeroes_.data() == nullptr) {
    zeroes_ = FILER_TRY(volume_.device.Pool().Allocate(kZeroBytes));
    std::fill_n(zeroes_.data(), kZeroBytes, std::byte{0});
  }
  return zeroes_;
}

Result<BufferRef> BufferSource::Allocate(std::uint64_t bytes) {
  BufferPool& pool = volume_.device.Pool();
  // A part of the pool is left to the log and to small requests.
  const std::uint64_t kept_free = pool.size_bytes() / 8;
  std::uint64_t want =
      std::bit_floor(std::clamp<std::uint64_t>(bytes, kBufferBytesMin, kBufferBytesMax));
  const std::uint64_t cached = volume_.counters.cached_bytes.load(std::memory_order_relaxed);
  if (cached + want > cache_bytes_max_) Evict(cached + want - cache_bytes_max_ + want);
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    for (std::uint64_t size = want; size >= kBufferBytesMin; size /= 2) {
      if (size > kBufferBytesMin && pool.free_bytes() < kept_free + size) continue;
      if (pool.free_bytes() < kept_free / 2 + size) break;
      auto buffer = pool.Allocate(static_cast<std::uint32_t>(size));
      if (buffer.has_value()) return buffer;
    }
    if (!TryMakeRoom(want, attempt)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return Error(Errc::kNoMemory, "all buffers of the device's pool stay in use");
}

// Every few tries that found nothing clean, dirty data is written back so that it can go.
bool BufferSource::TryMakeRoom(std::uint64_t bytes, int attempt) {
  if (Evict(std::max<std::uint64_t>(bytes, 1 << 20)) > 0) return true;
  if (attempt % 16 == 1 && write_back_some) {
    write_back_some();
    return Evict(bytes) > 0;
  }
  return false;
}

void BufferSource::Added(const NodePtr& node, std::uint64_t first_block, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  queue_.push_back({node, first_block, count});
  if (queue_.size() < compact_at_) return;
  // Entries of files that are gone; the others are dropped when their turn comes.
  std::erase_if(queue_, [](const Run& run) { return run.node.expired(); });
  compact_at_ = std::max<std::size_t>(8192, queue_.size() * 2);
}

std::uint64_t BufferSource::Evict(std::uint64_t bytes) {
  std::uint64_t evicted = 0;
  std::size_t left = 0;
  {
    const std::lock_guard lock(mutex_);
    left = queue_.size() * 2;
  }
  while (left-- > 0 && evicted < bytes) {
    Run run;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty()) break;
      run = std::move(queue_.front());
      queue_.pop_front();
    }
    const NodePtr node = run.node.lock();
    if (node == nullptr) continue;
    bool has_rest = true;
    if (node->mutex.try_lock()) {
      has_rest = false;
      auto at = node->blocks.lower_bound(run.first);
      while (at != node->blocks.end() && at->first < run.first + run.count) {
        if (at->second.is_dirty || at->second.is_referenced) {
          at->second.is_referenced = false;
          has_rest = true;
          ++at;
          continue;
        }
        at = node->blocks.erase(at);
        evicted += kBlockBytes;
        volume_.counters.cached_bytes.fetch_sub(kBlockBytes, std::memory_order_relaxed);
      }
      node->mutex.unlock();
    }
    if (!has_rest) continue;
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(run));
  }
  return evicted;
}

}  // namespace filer::engine
