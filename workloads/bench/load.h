// load.h: a closed loop of requests at a fixed depth over anything that takes and completes them.
//
// A Port has: bool Submit(std::uint32_t slot, bool is_write, std::uint64_t offset_bytes) (false: no
// room now), void Publish(), std::size_t Poll(std::span<Completion>) with `cookie` = slot and
// `is_ok`, and void Sample(LoadSample&), called at both ends of the window, between two requests.
// One thread; it must be pinned.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "workloads/bench/histogram.h"
#include "workloads/bench/ticks.h"

namespace filer::bench {

enum class Workload : std::uint8_t { kRead, kWrite, kMixed };  // mixed: 70% reads

struct LoadSpec {
  Workload workload = Workload::kRead;
  std::uint32_t block_bytes = 4096;
  std::uint32_t depth = 1;
  std::uint64_t range_bytes = 0;  // offsets: random multiples of block_bytes below this
  double seconds = 0.1;
  double warm_up_seconds = 0.02;
  std::uint64_t seed = 1;
  const std::atomic<bool>* stop = nullptr;  // turning true ends the run: kCancelled
};

inline bool IsStopped(const std::atomic<bool>* stop) {
  return stop != nullptr && stop->load(std::memory_order_relaxed);  // nothing comes with it
}
inline Error StoppedError() { return {Errc::kCancelled, "stopped before the end"}; }

// Running totals at one end of the window.
struct LoadSample {
  std::int64_t load_cpu_ns = 0;
  std::int64_t server_cpu_ns = 0;
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
};

struct LoadResult {
  std::uint64_t ios = 0;
  std::uint64_t errors = 0;
  double seconds = 0;
  Histogram latency_ticks;
  LoadSample begin, end;
};

// xorshift64*: offsets need no more, and it costs a nanosecond.
class RandomOffsets {
 public:
  RandomOffsets(std::uint64_t seed, std::uint64_t range_bytes, std::uint64_t block_bytes)
      : state_(seed * 2 + 1), block_bytes_(block_bytes), block_count_(range_bytes / block_bytes) {}
  std::uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    bits_ = state_ * 0x2545f4914f6cdd1dULL;
    return ((bits_ >> 32) * block_count_ >> 32) * block_bytes_;
  }
  // Of the last number; true in 30 of 100.
  bool IsWriteOfMixed() const { return (bits_ & 0xffff) < 19661; }

 private:
  std::uint64_t state_, bits_ = 0;
  std::uint64_t block_bytes_, block_count_;
};

template <typename Port, typename Completion>
class LoadLoop {
 public:
  LoadLoop(Port& port, const LoadSpec& spec)
      : port_(port),
        spec_(spec),
        clock_(TickClock::Get()),
        offsets_(spec.seed, spec.range_bytes, spec.block_bytes),
        started_(spec.depth) {
    for (std::uint32_t slot = 0; slot < spec.depth; ++slot) free_.push_back(slot);
  }

  // Errors: kTimedOut when nothing completes for ten seconds, kIo when requests failed, kCancelled.
  Result<LoadResult> Run() {
    const std::uint64_t window_begin = clock_.Now() + clock_.FromSeconds(spec_.warm_up_seconds);
    FILER_TRY(RunUntil(window_begin));
    is_counting_ = true;
    port_.Sample(result_.begin);
    const std::uint64_t begin = clock_.Now();
    FILER_TRY(RunUntil(begin + clock_.FromSeconds(spec_.seconds)));
    is_counting_ = false;
    result_.seconds = clock_.ToNs(static_cast<double>(clock_.Now() - begin)) / 1e9;
    port_.Sample(result_.end);
    FILER_TRY(Drain());
    if (result_.errors > 0) return Error(Errc::kIo, "requests failed");
    return std::move(result_);
  }

 private:
  Result<void> RunUntil(std::uint64_t end) {
    std::uint64_t now = clock_.Now();
    // On a machine that is too busy to complete anything the window grows: no figure from nothing.
    while (now < end || (is_counting_ && result_.ios < kIosMin)) {
      if (!free_.empty()) Submit(now);
      now = Reap();
      if (now - last_progress_ > patience_) return Stuck();
      if (IsStopped(spec_.stop)) return StoppedError();
    }
    return Ok();
  }

  void Submit(std::uint64_t now) {
    while (!free_.empty()) {
      const std::uint32_t slot = free_.back();
      const std::uint64_t offset = offsets_.Next();
      const bool is_write = spec_.workload == Workload::kWrite ||
                            (spec_.workload == Workload::kMixed && offsets_.IsWriteOfMixed());
      if (!port_.Submit(slot, is_write, offset)) break;
      started_[slot] = now;
      free_.pop_back();
    }
    port_.Publish();
  }

  // Returns the time after it.
  std::uint64_t Reap() {
    const std::size_t count = port_.Poll(completions_);
    const std::uint64_t now = clock_.Now();
    if (count == 0) return now;
    last_progress_ = now;
    for (std::size_t i = 0; i < count; ++i) {
      const auto slot = static_cast<std::uint32_t>(completions_[i].cookie);
      if (!completions_[i].is_ok) ++result_.errors;
      if (is_counting_) result_.latency_ticks.Record(now - started_[slot]);
      free_.push_back(slot);
    }
    if (is_counting_) result_.ios += count;
    return now;
  }

  Result<void> Drain() {
    while (free_.size() < spec_.depth) {
      const std::uint64_t now = Reap();
      if (now - last_progress_ > patience_) return Stuck();
      if (IsStopped(spec_.stop)) return StoppedError();
    }
    return Ok();
  }

  static constexpr std::uint64_t kIosMin = 16;
  static Error Stuck() { return {Errc::kTimedOut, "no request completed for 10 seconds"}; }

  Port& port_;
  const LoadSpec spec_;
  const TickClock& clock_;
  RandomOffsets offsets_;
  std::vector<std::uint64_t> started_;  // by slot, in ticks
  std::vector<std::uint32_t> free_;
  std::array<Completion, 128> completions_;
  LoadResult result_;
  bool is_counting_ = false;
  std::uint64_t last_progress_ = clock_.Now();
  std::uint64_t patience_ = clock_.FromSeconds(10);
};

}  // namespace filer::bench
