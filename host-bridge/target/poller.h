// poller.h: a thread that owns some volumes and runs queues: those of its volumes, and those that
// other pollers lend it. While there is work it only polls; after some empty rounds it yields the
// core between them; after idle_us without work it arms the doorbells, looks once more, and sleeps
// until a kick, a completion, a message, a note on its desk or Stop.
//
// Lending. A volume and its session have a home poller, which alone reads their messages; a queue
// may be run elsewhere. Queues move by count and seldom: a poller that worked seven eighths of
// the time, for four windows of a millisecond or more in a row, with two busy queues at least,
// gives one to a poller that has two fewer; so no move is ever answered by its opposite. A queue
// goes home when that evens the counts, when its session wants it (any message, limits, a new size,
// the end), and when it had nothing to do for lent_idle_us. It changes hands between two rounds;
// what its backend has in flight goes with it. No request pays for any of this: what decides is
// read once per window. Threads: Create, Start and Stop by the owner; counters and desk by anybody.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "host-bridge/target/borrowed_queues.h"
#include "host-bridge/target/counters.h"
#include "host-bridge/target/desk.h"
#include "host-bridge/target/volume.h"
#include "host-bridge/target/wait_set.h"

namespace filer::bridge {

struct PollerOptions {
  int cpu = -1;  // to run on; -1: anywhere
  // Without work for so long it sleeps, and the next request pays a doorbell; 0: it never does.
  std::uint32_t idle_us = 300;
  // A queue that had nothing to do for so long goes home.
  std::uint32_t lent_idle_us = 20'000;
  // Every queue goes to the next poller, and back after a few rounds, whatever the load.
  bool is_restless_for_test = false;
};

struct PollerCounters {
  Counter polls;       // rounds
  Counter busy_polls;  // that did something
  Counter sleeps;
  Counter lent;      // queues that it gave to others to run
  Counter returned;  // of those, came back
  Counter borrowed;  // queues that it was given
};

// What the pollers of a group share; outlives them.
struct PollerGroupState {
  std::vector<std::unique_ptr<Volume>> volumes;  // of all pollers
  std::vector<std::unique_ptr<Desk>> desks;      // by poller
  std::atomic<bool> is_stopping = false;
  // Pollers that still have sessions. None ends before: the kernel takes back the requests that a
  // thread submitted when it ends, wherever their queue is by then.
  std::atomic<std::uint32_t> serving_count = 0;
};

class Poller {
 public:
  // The poller of desk `index`; it owns each volume whose index is its own, modulo their number.
  static Result<std::unique_ptr<Poller>> Create(const PollerOptions& options,
                                                PollerGroupState& group, std::uint32_t index);

  void Start();
  // Errors: kSystem, when `cpu` cannot be had. After Start.
  Result<void> Pin();
  // Waits for its end, which is_stopping brings about.
  void Join();

  const PollerCounters& counters() const { return counters_; }
  int cpu() const { return options_.cpu; }

 private:
  Poller(const PollerOptions& options, PollerGroupState& group, std::uint32_t index, WaitSet waits);
  void Run();
  bool Round();
  bool VisitAll();
  bool ArmAndCheckIdle();
  // How long it may sleep: until requests may be taken that limits hold back, or borrowed queues go
  // home; -1: for ever.
  int SleepMs() const;
  // Waits for events at most `timeout_ms` (-1: for ever) and serves them; true when there were any.
  bool TakeEvents(int timeout_ms);
  void TakeNotes();
  void Drain();

  // poller_balance.cc
  void Balance(std::int64_t now_ns);
  struct Look {
    std::uint32_t busy_queues = 0;
    Volume* lender = nullptr;  // has a queue to lend
    std::uint32_t queue_index = 0;
  };
  Look LookAround(std::uint64_t busy_rounds, std::int64_t now_ns);
  void NoteIdleTime(std::int64_t now_ns);
  void Shed(const Look& look);
  std::optional<std::uint32_t> LeastBusyPeer() const;
  void WanderForTest();
  void StartWindow(std::int64_t now_ns);

  bool has_peers() const { return group_.desks.size() > 1; }
  bool is_stopping() const { return group_.is_stopping.load(std::memory_order_acquire); }

  PollerOptions options_;
  PollerGroupState& group_;
  Desk& desk_;
  std::vector<Volume*> volumes_;  // at home here
  WaitSet waits_;
  BorrowedQueues borrowed_;
  std::vector<Note> notes_;  // scratch
  PollerCounters counters_;
  struct Window {
    std::int64_t start_ns = 0;
    std::uint64_t busy_polls = 0;  // at its start
    std::int64_t idle_ns = 0;
    std::int64_t seen_ns = 0;  // the last look at the clock, and what was counted then
    std::uint64_t seen_polls = 0, seen_busy_polls = 0;
    std::uint32_t saturated_before = 0;  // windows in a row
  } window_;
  double empty_round_ns_ = 0;  // what a round costs that finds nothing; 0: not known yet
  std::thread thread_;
};

}  // namespace filer::bridge
