#include "host-bridge/target/rate_limit.h"

#include <algorithm>

namespace filer::bridge {
namespace {
constexpr double kNsPerS = 1e9;
}

void TokenBucket::SetRate(std::uint64_t rate, std::int64_t now_ns) {
  rate_ = static_cast<double>(rate);
  tokens_ = rate_ * RateLimiter::kBurstNs / kNsPerS;
  refilled_ns_ = now_ns;
  is_paused_ = false;
}

// What comes together in a pause, but a whole request at least.
double TokenBucket::PauseTokens() const {
  return std::max(1.0, rate_ * RateLimiter::kPauseNs / kNsPerS);
}

void TokenBucket::Refill(std::int64_t now_ns) {
  if (rate_ == 0 || now_ns <= refilled_ns_) return;
  const double burst = std::max(PauseTokens(), rate_ * RateLimiter::kBurstNs / kNsPerS);
  const double come = rate_ * static_cast<double>(now_ns - refilled_ns_) / kNsPerS;
  tokens_ = std::min(burst, tokens_ + come);
  refilled_ns_ = now_ns;
}

std::int64_t TokenBucket::WaitNs() const {
  if (is_open()) return 0;
  const double missing = PauseTokens() - tokens_;
  return static_cast<std::int64_t>(missing / rate_ * kNsPerS) + 1;
}

void RateLimiter::Set(const VolumeLimits& limits) {
  wanted_requests_.store(limits.requests_per_s, std::memory_order_relaxed);
  wanted_bytes_.store(limits.bytes_per_s, std::memory_order_relaxed);
  set_count_.fetch_add(1, std::memory_order_release);  // pairs with IsOpen: after the numbers
  is_limited_.store(limits != VolumeLimits{}, std::memory_order_relaxed);
}

VolumeLimits RateLimiter::Get() const {
  return {wanted_requests_.load(std::memory_order_relaxed),
          wanted_bytes_.load(std::memory_order_relaxed)};
}

bool RateLimiter::IsOpen(std::int64_t now_ns) {
  const std::uint64_t count = set_count_.load(std::memory_order_acquire);  // pairs with Set
  if (count != applied_count_) {
    applied_count_ = count;
    const VolumeLimits limits = Get();
    requests_.SetRate(limits.requests_per_s, now_ns);
    bytes_.SetRate(limits.bytes_per_s, now_ns);
  }
  requests_.Refill(now_ns);
  bytes_.Refill(now_ns);
  requests_.NoteEmpty();
  bytes_.NoteEmpty();
  return requests_.is_open() && bytes_.is_open();
}

std::int64_t RateLimiter::WaitNs() const { return std::max(requests_.WaitNs(), bytes_.WaitNs()); }

}  // namespace filer::bridge
