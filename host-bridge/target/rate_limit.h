// rate_limit.h: what a volume may do per second: requests, and bytes of data. A bucket of tokens
// for each; a request is let through while both hold some, and takes what it costs, also more than
// there is: the debt is paid before the next one. So a large request waits its time afterwards and
// never starves for want of a full bucket.
//
// An empty bucket lets nothing through until kPauseNs worth has come together: then a poller that
// sleeps wakes a hundred times per second at most, whatever the rate.
// Threads: Set by any; the rest by the poller.
#pragma once

#include <atomic>
#include <cstdint>

namespace filer::bridge {

struct VolumeLimits {
  std::uint64_t requests_per_s = 0;  // 0: no limit
  std::uint64_t bytes_per_s = 0;     // 0: no limit
  friend bool operator==(const VolumeLimits&, const VolumeLimits&) = default;
};

class TokenBucket {
 public:
  // Rate per second; 0: no limit. Starts full.
  void SetRate(std::uint64_t rate, std::int64_t now_ns);
  void Refill(std::int64_t now_ns);
  void Take(std::uint64_t count) {
    if (rate_ != 0) tokens_ -= static_cast<double>(count);
  }
  bool is_open() const {
    return rate_ == 0 || (is_paused_ ? tokens_ >= PauseTokens() : tokens_ > 0);
  }
  // Latches: until enough came together.
  void NoteEmpty() { is_paused_ = !is_open(); }
  // Until it opens; 0: it is open.
  std::int64_t WaitNs() const;

 private:
  double PauseTokens() const;
  double rate_ = 0;
  double tokens_ = 0;
  std::int64_t refilled_ns_ = 0;
  bool is_paused_ = false;
};

class RateLimiter {
 public:
  static constexpr std::int64_t kPauseNs = 10'000'000;
  static constexpr std::int64_t kBurstNs = 50'000'000;

  void Set(const VolumeLimits& limits);
  VolumeLimits Get() const;
  // One relaxed load: for the polled path.
  bool is_limited() const { return is_limited_.load(std::memory_order_relaxed); }

  // Only when limited. Whether the next request may be taken; looked at once per round.
  bool IsOpen(std::int64_t now_ns);
  // Likewise, without looking at the time: between the requests of a round.
  bool HasTokens() const { return requests_.is_open() && bytes_.is_open(); }
  // One request with so much data.
  void Take(std::uint64_t bytes) {
    requests_.Take(1);
    bytes_.Take(bytes);
  }
  // After IsOpen, with no request taken since: until the next may be. 0: now.
  std::int64_t WaitNs() const;

 private:
  std::atomic<bool> is_limited_ = false;
  // What Set said last; applied by the poller when the number moved.
  std::atomic<std::uint64_t> wanted_requests_ = 0, wanted_bytes_ = 0, set_count_ = 0;
  std::uint64_t applied_count_ = 0;
  TokenBucket requests_, bytes_;
};

}  // namespace filer::bridge
