#include "host-bridge/target/latency.h"

#include "base/clock.h"

namespace filer::bridge {
namespace {

struct Instant {
  std::uint64_t ticks = ReadTicks();
  std::int64_t ns = SystemClock().MonotonicNs();
};

// Before main, so that there is something to measure by.
const Instant process_start;

}  // namespace

double TicksPerNs() {
  Instant now;
  while (now.ns - process_start.ns < 1'000'000) now = Instant();
  return static_cast<double>(now.ticks - process_start.ticks) /
         static_cast<double>(now.ns - process_start.ns);
}

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
