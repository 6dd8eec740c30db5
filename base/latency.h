// latency.h: times in ticks of the processor's counter, counted in buckets of 1/8 of a power of
// two: 6% wide on either side. A reading of the counter costs some ten nanoseconds.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace filer {

// The processor's time stamp counter.
inline std::uint64_t ReadTicks() { return __builtin_ia32_rdtsc(); }
// Of a number of ticks. Measured against CLOCK_MONOTONIC since this program was loaded: good after
// the first millisecond.
double TicksPerNs();

struct LatencyBuckets {
  static constexpr std::uint32_t kSubBits = 3;
  static constexpr std::uint32_t kBucketCount = (64 - kSubBits + 1) << kSubBits;

  static constexpr std::uint32_t BucketOf(std::uint64_t ticks) {
    const auto width = static_cast<std::uint32_t>(std::bit_width(ticks));
    if (width <= kSubBits) return static_cast<std::uint32_t>(ticks);
    const std::uint32_t shift = width - kSubBits - 1;
    const auto sub = static_cast<std::uint32_t>(ticks >> shift) & ((1U << kSubBits) - 1);
    return ((shift + 1) << kSubBits) + sub;
  }
  // The largest number of ticks in a bucket.
  static constexpr std::uint64_t UpperTicks(std::uint32_t bucket) {
    if (bucket < (1U << kSubBits)) return bucket;
    const std::uint32_t shift = (bucket >> kSubBits) - 1;
    const std::uint64_t first = std::uint64_t{(1U << kSubBits) + (bucket & ((1U << kSubBits) - 1))};
    return (first << shift) + ((std::uint64_t{1} << shift) - 1);
  }
};

struct LatencySummary {
  std::uint64_t count = 0;
  std::uint64_t p50_ns = 0, p99_ns = 0, max_ns = 0;  // upper ends of their buckets
};

// Counts of one lock's owner.
class LatencyCounts {
 public:
  void Add(std::uint64_t ticks) { ++counts_[LatencyBuckets::BucketOf(ticks)]; }
  LatencySummary Summary() const;

 private:
  std::array<std::uint64_t, LatencyBuckets::kBucketCount> counts_{};
};

}  // namespace filer
