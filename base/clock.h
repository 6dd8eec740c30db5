// clock.h: time arrives through an interface, so that a simulation can drive it.
#pragma once

#include <cstdint>

namespace filer {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since the epoch (CLOCK_REALTIME). Any thread, never blocks.
  virtual std::int64_t RealtimeNs() const noexcept = 0;
  // Nanoseconds, never goes back (CLOCK_MONOTONIC). Any thread, never blocks.
  virtual std::int64_t MonotonicNs() const noexcept = 0;
};

// The machine's own clock. Never destroyed.
const Clock& SystemClock() noexcept;

// Moves only when told to. One thread at a time.
class ManualClock final : public Clock {
 public:
  std::int64_t RealtimeNs() const noexcept override { return now_ns_; }
  std::int64_t MonotonicNs() const noexcept override { return now_ns_; }
  void AdvanceNs(std::int64_t by_ns) noexcept { now_ns_ += by_ns; }

 private:
  std::int64_t now_ns_ = 1'700'000'000'000'000'000;
};

}  // namespace filer
