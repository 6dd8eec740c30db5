// sharded_counter.h: a counter that many threads count up at once: each in a line of the cache that
// few others use. Relaxed: it orders nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace filer {

class ShardedCounter {
 public:
  void Add(std::uint64_t by = 1) noexcept {
    shards_[ShardOfThread()].value.fetch_add(by, std::memory_order_relaxed);
  }
  std::uint64_t Sum() const noexcept {
    std::uint64_t sum = 0;
    for (const Shard& shard : shards_) sum += shard.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  static constexpr std::uint32_t kShardCount = 8;
  struct alignas(64) Shard {
    std::atomic<std::uint64_t> value{0};
  };
  static std::uint32_t ShardOfThread() noexcept {
    static std::atomic<std::uint32_t> next{1};  // relaxed: any spread will do
    thread_local std::uint32_t mine = 0;        // a constant at first: no guard is looked at
    if (mine == 0) [[unlikely]]
      mine = next.fetch_add(1, std::memory_order_relaxed);
    return mine % kShardCount;
  }

  std::array<Shard, kShardCount> shards_;
};

}  // namespace filer
