#include "workloads/bench/ping_pong.h"

#include <fmt/format.h>

#include <atomic>
#include <thread>
#include <vector>

#include "workloads/bench/statistics.h"
#include "workloads/bench/ticks.h"

namespace filer::bench {
namespace {

constexpr std::uint64_t kStop = UINT64_MAX;
constexpr int kBatchCount = 100;
constexpr std::uint64_t kBatchTrips = 100;
constexpr std::uint64_t kSingleTrips = 10'000;
constexpr double kPatienceSeconds = 5;

struct alignas(128) Line {
  // Even values are ours, odd ones the answers. Each release store pairs with the other's acquire.
  std::atomic<std::uint64_t> value = 0;
};

void Answer(Line& line) {
  std::uint64_t expected = 1;
  while (true) {
    const std::uint64_t value = line.value.load(std::memory_order_acquire);
    if (value == kStop) return;
    if (value != expected) continue;
    line.value.store(value + 1, std::memory_order_release);
    expected += 2;
  }
}

class Caller {
 public:
  explicit Caller(Line& line) : line_(line), clock_(TickClock::Get()) {}
  // False when the other side does not answer.
  bool RoundTrip() {
    line_.value.store(++value_, std::memory_order_release);
    ++value_;
    for (std::uint32_t spins = 0; line_.value.load(std::memory_order_acquire) != value_; ++spins) {
      if ((spins & 0xffff) != 0xffff) continue;
      if (clock_.Now() > deadline_) return false;
    }
    return true;
  }

 private:
  Line& line_;
  const TickClock& clock_;
  std::uint64_t value_ = 0;
  std::uint64_t deadline_ = clock_.Now() + clock_.FromSeconds(kPatienceSeconds);
};

bool Measure(Line& line, PingPong& result) {
  const TickClock& clock = TickClock::Get();
  Caller caller(line);
  for (std::uint64_t i = 0; i < kBatchTrips; ++i) {
    if (!caller.RoundTrip()) return false;
  }
  std::vector<double> batches;
  for (int batch = 0; batch < kBatchCount; ++batch) {
    const std::uint64_t begin = clock.Now();
    for (std::uint64_t i = 0; i < kBatchTrips; ++i) {
      if (!caller.RoundTrip()) return false;
    }
    batches.push_back(clock.ToNs(static_cast<double>(clock.Now() - begin)) / kBatchTrips);
  }
  result.median_ns = SpreadOf(std::move(batches)).median;
  std::uint64_t begin = clock.Now();
  for (std::uint64_t i = 0; i < kSingleTrips; ++i) {
    if (!caller.RoundTrip()) return false;
    const std::uint64_t end = clock.Now();
    result.single_ticks.Record(end - begin);
    begin = end;
  }
  return true;
}

}  // namespace

Result<PingPong> MeasurePingPong(const CorePair& cores) {
  Line line;
  std::atomic<bool> is_pinned = true;
  std::thread answering([&] {
    if (PinThread(cores.server).has_error()) is_pinned.store(false, std::memory_order_relaxed);
    Answer(line);
  });
  PingPong result;
  const bool is_done = Measure(line, result);
  line.value.store(kStop, std::memory_order_release);
  answering.join();
  if (!is_pinned.load(std::memory_order_relaxed)) {
    return Error(Errc::kSystem, fmt::format("core {}: cannot run there", cores.server));
  }
  if (!is_done) return Error(Errc::kTimedOut, "the other core does not answer: it is too busy");
  return result;
}

}  // namespace filer::bench
