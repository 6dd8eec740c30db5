// ticks.h: time stamps for spans of nanoseconds: the processor's time-stamp counter where it runs
// at one rate on all cores, else CLOCK_MONOTONIC. Any thread.
#pragma once

#include <x86intrin.h>

#include <cstdint>

#include "base/clock.h"

namespace filer::bench {

class TickClock {
 public:
  // Looks at the processor and measures the counter's rate: blocks 50 ms, the first time.
  static const TickClock& Get();

  std::uint64_t Now() const {
    return is_counter_ ? __rdtsc() : static_cast<std::uint64_t>(SystemClock().MonotonicNs());
  }
  double ns_per_tick() const { return ns_per_tick_; }
  bool is_counter() const { return is_counter_; }
  double ToNs(double ticks) const { return ticks * ns_per_tick_; }
  std::uint64_t FromSeconds(double seconds) const {
    return static_cast<std::uint64_t>(seconds * 1e9 / ns_per_tick_);
  }

 private:
  TickClock();
  bool is_counter_ = false;
  double ns_per_tick_ = 1;
};

}  // namespace filer::bench
