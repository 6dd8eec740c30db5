// histogram.h: latencies, counted in buckets whose width is at most 1/128 of their value, so that
// quantiles are right to 0.8% without keeping samples. Record is a shift and an increment. The unit
// is the caller's. One thread at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace filer::bench {

class Histogram {
 public:
  Histogram() : counts_(kBucketCount) {}

  void Record(std::uint64_t value) { ++counts_[BucketOf(value)]; }
  void Record(std::uint64_t value, std::uint64_t count) { counts_[BucketOf(value)] += count; }
  void Merge(const Histogram& other);
  std::uint64_t Count() const;
  // The value that `quantile` (0 to 1) of all samples do not exceed: the middle of its bucket.
  // 0 without samples.
  double Quantile(double quantile) const;

 private:
  static constexpr unsigned kExactBits = 7;  // values below 2^7 have a bucket of their own
  static constexpr std::uint64_t kExact = 1U << kExactBits;
  static constexpr std::size_t kBucketCount = (64 - kExactBits + 1) * kExact;

  static std::size_t BucketOf(std::uint64_t value) {
    if (value < kExact) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kExactBits - 1;
    return (shift + 1) * kExact + ((value >> shift) - kExact);
  }
  static double MiddleOf(std::size_t bucket);

  std::vector<std::uint64_t> counts_;
};

}  // namespace filer::bench
