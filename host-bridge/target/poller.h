// poller.h: the thread that owns all volumes' queues. While there is work it only polls; after some
// empty rounds it yields the core between them; after idle_us without work it arms the doorbells,
// looks once more, and sleeps until a kick, a completion, a message or Stop.
// Threads: Create, Start and Stop by the owner; counters by anybody.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "host-bridge/target/counters.h"
#include "host-bridge/target/volume.h"
#include "host-bridge/target/wait_set.h"

namespace filer::bridge {

struct PollerOptions {
  int cpu = -1;  // to run on; -1: anywhere
  // Without work for so long it sleeps, and the next request pays a doorbell; 0: it never does.
  std::uint32_t idle_us = 300;
};

struct PollerCounters {
  Counter polls;       // rounds
  Counter busy_polls;  // that did something
  Counter sleeps;
};

class Poller {
 public:
  static Result<std::unique_ptr<Poller>> Create(const PollerOptions& options,
                                                std::vector<std::unique_ptr<Volume>> volumes);
  ~Poller();  // Stop

  // Errors: kSystem, when `cpu` cannot be had.
  Result<void> Start();
  // Ends all sessions after their requests in flight, flushes every volume, joins the thread.
  void Stop();
  // It looks at its volumes soon, also when it sleeps. Any thread.
  void Wake();

  const std::vector<std::unique_ptr<Volume>>& volumes() const { return volumes_; }
  const PollerCounters& counters() const { return counters_; }

 private:
  Poller(const PollerOptions& options, std::vector<std::unique_ptr<Volume>> volumes, WaitSet waits,
         UniqueFd wake);
  void Run();
  bool Round();
  bool VisitAll();
  bool ArmAndCheckIdle();
  // How long it may sleep: until requests may be taken that limits hold back; -1: for ever.
  int SleepMs() const;
  // Waits for events at most `timeout_ms` (-1: for ever) and serves them; true when there were any.
  bool TakeEvents(int timeout_ms);
  void Drain();

  PollerOptions options_;
  std::vector<std::unique_ptr<Volume>> volumes_;
  WaitSet waits_;
  UniqueFd wake_;
  PollerCounters counters_;
  std::atomic<bool> is_stopping_ = false;
  std::thread thread_;
};

}  // namespace filer::bridge
