// budget.h: how often something may be done for a peer that can ask for it without end: a number of
// times at once, then one more time per period.
// Threads: one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace filer::bridge {

class Budget {
 public:
  Budget(std::uint32_t burst, std::int64_t period_ns, const Clock& clock = SystemClock())
      : burst_(burst), period_ns_(period_ns), clock_(clock), left_(burst) {}

  bool Take() {
    const std::int64_t now_ns = clock_.MonotonicNs();
    const std::int64_t more = (now_ns - refilled_ns_) / period_ns_;
    if (more > 0) {
      left_ = static_cast<std::uint32_t>(std::min<std::int64_t>(burst_, left_ + more));
      refilled_ns_ = now_ns;
    }
    if (left_ == 0) return false;
    --left_;
    return true;
  }

 private:
  std::uint32_t burst_;
  std::int64_t period_ns_;
  const Clock& clock_;
  std::uint32_t left_;
  std::int64_t refilled_ns_ = 0;
};

}  // namespace filer::bridge
