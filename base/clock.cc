#include "base/clock.h"

#include <ctime>

namespace filer {
namespace {

std::int64_t ReadNs(clockid_t id) noexcept {
  timespec now{};
  clock_gettime(id, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

class RealClock final : public Clock {
 public:
  std::int64_t RealtimeNs() const noexcept override { return ReadNs(CLOCK_REALTIME); }
  std::int64_t MonotonicNs() const noexcept override { return ReadNs(CLOCK_MONOTONIC); }
};

}  // namespace

const Clock& SystemClock() noexcept {
  static const RealClock* clock = new RealClock;
  return *clock;
}

}  // namespace filer
