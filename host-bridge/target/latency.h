// latency.h: how long requests take inside the bridge, from their descriptors to their used
// element, per operation.
//
// Where the backend works by the processor alone (null, memory) a request takes some hundred
// nanoseconds, and two readings of the counter would be seen: there one poll round of sixteen is
// measured. Where requests go to the kernel, all are.
// Threads: Add by one (the poller); Read by any.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/latency.h"
#include "host-bridge/target/counter.h"

namespace filer::bridge {

class LatencyHistogram : public LatencyBuckets {
 public:
  void Add(std::uint64_t ticks) { buckets_[BucketOf(ticks)].Add(1); }

  void AddAll(const LatencyHistogram& other) {
    for (std::uint32_t i = 0; i < kBucketCount; ++i) buckets_[i].Add(other.buckets_[i].Get());
  }

  struct Bucket {
    std::uint32_t index;     // the same for the same times, while the process lives
    std::uint64_t upper_ns;  // of what is counted here
    std::uint64_t count;
  };
  // Those that are not empty, by rising time.
  std::vector<Bucket> Read() const;

 private:
  std::array<Counter, kBucketCount> buckets_;
};

// By BackendOperation.
struct VolumeLatencies {
  static constexpr std::size_t kOperationCount = 5;
  std::array<LatencyHistogram, kOperationCount> by_operation;
};

// When a queue reads the counter.
class LatencySampler {
 public:
  // `measures_all`: else one round of kRoundsPerSample.
  explicit LatencySampler(bool measures_all = false) : measures_all_(measures_all) {}
  // Once per round that takes requests: their start, or 0 when this round is not measured.
  std::uint64_t RoundStart() {
    if (!measures_all_ && ++round_ % kRoundsPerSample != 0) return 0;
    return ReadTicks();
  }

 private:
  static constexpr std::uint32_t kRoundsPerSample = 16;
  bool measures_all_;
  std::uint32_t round_ = kRoundsPerSample - 1;  // the first round is measured
};

}  // namespace filer::bridge
