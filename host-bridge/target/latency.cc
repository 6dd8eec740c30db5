#include "host-bridge/target/latency.h"

namespace filer::bridge {
std::vector<LatencyHistogram::Bucket> LatencyHistogram::Read() const {
  std::vector<Bucket> buckets;
  const double ticks_per_ns = TicksPerNs();
  for (std::uint32_t i = 0; i < kBucketCount; ++i) {
    const std::uint64_t count = buckets_[i].Get();
    if (count == 0) continue;
    const double upper_ns = static_cast<double>(UpperTicks(i)) / ticks_per_ns;
    buckets.push_back({i, static_cast<std::uint64_t>(upper_ns), count});
  }
  return buckets;
}

}  // namespace filer::bridge
