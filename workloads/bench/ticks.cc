#include "workloads/bench/ticks.h"

#include <cpuid.h>

#include <chrono>
#include <thread>

namespace filer::bench {
namespace {

// Same rate whatever the core's clock does, and in all its sleep states (AMD and Intel alike).
bool HasInvariantCounter() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (edx & (1U << 8)) != 0;
}

}  // namespace

TickClock::TickClock() : is_counter_(HasInvariantCounter()) {
  if (!is_counter_) return;
  const std::int64_t begin_ns = SystemClock().MonotonicNs();
  const std::uint64_t begin = __rdtsc();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::uint64_t end = __rdtsc();
  const std::int64_t end_ns = SystemClock().MonotonicNs();
  ns_per_tick_ = static_cast<double>(end_ns - begin_ns) / static_cast<double>(end - begin);
}

const TickClock& TickClock::Get() {
  static const TickClock clock;
  return clock;
}

}  // namespace filer::bench
