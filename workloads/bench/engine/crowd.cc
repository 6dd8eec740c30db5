#include "workloads/bench/engine/crowd.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <memory>
#include <thread>

namespace filer::bench {
namespace {

constexpr auto kLook = std::chrono::microseconds(500);
constexpr double kPatienceSeconds = 10;

enum Phase : int { kWarmUp, kMeasured, kOver };

void RunOn(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(static_cast<std::size_t>(core), &set);
  static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set));
}

// Signals are for the main thread: a system call of a caller is not to end early.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

struct alignas(64) Worker {
  std::unique_ptr<Caller> caller;
  Histogram latency_ticks;
  std::atomic<std::uint64_t> operations{0};  // in the window; relaxed, only counted
  std::uint64_t bytes = 0, entries = 0;      // as these
  Result<void> result = Ok();
};

class Crowd {
 public:
  Crowd(FileSystem& files, const Fixture& fixture, const CrowdSpec& spec)
      : spec_(spec), workers_(spec.cell.threads), barrier_(spec.cell.threads + 1) {
    for (std::uint32_t i = 0; i < spec.cell.threads; ++i) {
      workers_[i].caller = std::make_unique<Caller>(files, fixture, spec.cell, i, spec.serial);
    }
  }

  Result<CrowdResult> Run() {
    prepare_until_ = clock_.Now() + clock_.FromSeconds(spec_.seconds);
    std::vector<std::thread> threads;
    {
      const SignalsBlocked blocked;
      for (Worker& worker : workers_) threads.emplace_back([this, &worker] { Work(worker); });
    }
    barrier_.arrive_and_wait();  // all are prepared
    // What there is to unlink is not spent on warming up.
    const bool has_warm_up = spec_.cell.workload != FileWorkload::kUnlink;
    std::uint64_t begin = 0;
    if (!has_warm_up) begin = BeginWindow();
    barrier_.arrive_and_wait();  // they go
    if (has_warm_up) {
      Wait(spec_.seconds / 5);
      begin = BeginWindow();
    }
    Wait(spec_.seconds);
    while (phase_.load() == kMeasured && Operations() == 0 && Since(begin) < kPatienceSeconds) {
      std::this_thread::sleep_for(kLook);
    }
    if (spec_.at_window) spec_.at_window(true);
    phase_.store(kOver);
    const std::uint64_t ended = ended_.load();
    const std::uint64_t end = ended != 0 ? ended : clock_.Now();
    for (std::thread& thread : threads) thread.join();
    for (Worker& worker : workers_) FILER_TRY(std::move(worker.result));
    return Collect(static_cast<double>(end - begin) * clock_.ns_per_tick() / 1e9);
  }

 private:
  void Work(Worker& worker) {
    RunOn(spec_.cores);
    worker.result = worker.caller->Prepare(prepare_until_);
    if (worker.result.has_error()) EndNow();
    barrier_.arrive_and_wait();
    barrier_.arrive_and_wait();
    if (worker.result.has_value()) worker.result = Loop(worker);
    if (worker.result.has_error()) {
      EndNow();
      return;
    }
    worker.result = worker.caller->CleanUp();
  }

  Result<void> Loop(Worker& worker) {
    Caller& caller = *worker.caller;
    for (;;) {
      const std::uint64_t bytes = caller.bytes();
      const std::uint64_t entries = caller.entries();
      const std::uint64_t begin = clock_.Now();
      const bool is_done = FILER_TRY(caller.Step());
      const std::uint64_t end = clock_.Now();
      const int phase = phase_.load(std::memory_order_relaxed);  // it guards nothing
      if (phase == kOver) return Ok();
      if (!is_done) {
        EndNow();
        return Ok();
      }
      if (phase != kMeasured) continue;
      worker.latency_ticks.Record(end - begin);
      worker.bytes += caller.bytes() - bytes;
      worker.entries += caller.entries() - entries;
      worker.operations.fetch_add(1, std::memory_order_relaxed);
    }
  }

  std::uint64_t BeginWindow() {
    if (spec_.at_window) spec_.at_window(false);
    const std::uint64_t begin = clock_.Now();
    int warm_up = kWarmUp;  // unless somebody failed
    phase_.compare_exchange_strong(warm_up, kMeasured);
    return begin;
  }

  // The first who does so says when.
  void EndNow() {
    std::uint64_t none = 0;
    ended_.compare_exchange_strong(none, clock_.Now());
    phase_.store(kOver);
  }

  double Since(std::uint64_t begin) const {
    return clock_.ToNs(static_cast<double>(clock_.Now() - begin)) / 1e9;
  }

  void Wait(double seconds) const {
    const std::uint64_t begin = clock_.Now();
    while (phase_.load(std::memory_order_relaxed) != kOver && Since(begin) < seconds) {
      const auto left = std::chrono::duration<double>(seconds - Since(begin));
      std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(left, kLook));
    }
  }

  std::uint64_t Operations() const {
    std::uint64_t operations = 0;
    for (const Worker& worker : workers_) {
      operations += worker.operations.load(std::memory_order_relaxed);
    }
    return operations;
  }

  Result<CrowdResult> Collect(double seconds) const {
    CrowdResult result;
    result.seconds = seconds;
    for (const Worker& worker : workers_) {
      result.bytes += worker.bytes;
      result.entries += worker.entries;
      result.latency_ticks.Merge(worker.latency_ticks);
    }
    result.operations = Operations();
    if (result.operations > 0) return result;
    return Error(Errc::kTimedOut, "no operation ended within ten seconds");
  }

  const CrowdSpec& spec_;
  const TickClock& clock_ = TickClock::Get();
  std::vector<Worker> workers_;
  std::barrier<> barrier_;
  std::uint64_t prepare_until_ = 0;
  std::atomic<int> phase_{kWarmUp};
  std::atomic<std::uint64_t> ended_{0};  // 0: nobody has
};

}  // namespace

Result<CrowdResult> RunCrowd(FileSystem& files, const Fixture& fixture, const CrowdSpec& spec) {
  return Crowd(files, fixture, spec).Run();
}

}  // namespace filer::bench
