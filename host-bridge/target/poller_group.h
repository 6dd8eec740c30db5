// poller_group.h: all pollers of a process, and the volumes that they serve: volume i is at home at
// poller i modulo their number.
// Threads: Create, Start and Stop by the owner; the rest by any.
#pragma once

#include <memory>
#include <vector>

#include "host-bridge/target/poller.h"

namespace filer::bridge {

struct PollerGroupOptions {
  std::uint32_t poller_count = 1;  // 1 to kPollerCountMax
  std::vector<int> cpus;           // one per poller; empty: anywhere
  // As in PollerOptions.
  std::uint32_t idle_us = 300;
  std::uint32_t lent_idle_us = 20'000;
  bool is_restless_for_test = false;
};

class PollerGroup {
 public:
  // Errors: kSystem.
  static Result<std::unique_ptr<PollerGroup>> Create(const PollerGroupOptions& options,
                                                     std::vector<std::unique_ptr<Volume>> volumes);
  ~PollerGroup();  // Stop

  // Errors: kSystem, when a core cannot be had.
  Result<void> Start();
  // Ends all sessions after their requests in flight, flushes every volume, joins the threads.
  void Stop();
  // All look at their volumes soon, also who sleeps.
  void Wake();

  const std::vector<std::unique_ptr<Volume>>& volumes() const { return state_.volumes; }
  std::size_t size() const { return pollers_.size(); }
  const Poller& poller(std::size_t index) const { return *pollers_[index]; }
  // Queues that keep this one busy, about.
  std::uint32_t busy_queues(std::size_t index) const { return state_.desks[index]->busy_queues(); }
  // Of all pollers.
  PollerCounters counters() const;

 private:
  PollerGroup() = default;
  PollerGroupState state_;
  std::vector<std::unique_ptr<Poller>> pollers_;
};

}  // namespace filer::bridge
