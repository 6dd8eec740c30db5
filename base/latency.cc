#include "base/latency.h"

#include <cmath>

#include "base/clock.h"

namespace filer {
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

LatencySummary LatencyCounts::Summary() const {
  LatencySummary summary;
  for (const std::uint64_t count : counts_) summary.count += count;
  const double ticks_per_ns = TicksPerNs();
  const auto rank_of = [&](double fraction) {
    return static_cast<std::uint64_t>(std::ceil(static_cast<double>(summary.count) * fraction));
  };
  std::uint64_t seen = 0;
  for (std::uint32_t bucket = 0; bucket < counts_.size(); ++bucket) {
    if (counts_[bucket] == 0) continue;
    const auto upper_ns = static_cast<std::uint64_t>(
        static_cast<double>(LatencyBuckets::UpperTicks(bucket)) / ticks_per_ns);
    if (seen < rank_of(0.5)) summary.p50_ns = upper_ns;
    if (seen < rank_of(0.99)) summary.p99_ns = upper_ns;
    summary.max_ns = upper_ns;
    seen += counts_[bucket];
  }
  return summary;
}

}  // namespace filer
