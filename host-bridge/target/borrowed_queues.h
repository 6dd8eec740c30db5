// borrowed_queues.h: the queues that a poller runs for others. Each goes back when it is wanted
// back, when something happened that only its session can deal with (a fault, a missing
// translation, truncated memory), and when nothing has happened for a while.
// Threads: its poller.
#pragma once

#include <cstdint>
#include <vector>

#include "host-bridge/target/block_queue.h"
#include "host-bridge/target/desk.h"
#include "host-bridge/target/wait_set.h"

namespace filer::bridge {

class BorrowedQueues {
 public:
  // `waits`: its poller's, outlives it.
  explicit BorrowedQueues(WaitSet& waits) : waits_(waits) {}

  // Runs it from now on; gives it back at once when it cannot.
  void Take(QueueLoan& loan);
  // Nothing if it is not here (any more): then `loan` is not looked at.
  void GiveBack(const QueueLoan* loan);
  void GiveBackAll();

  bool is_empty() const { return queues_.empty(); }
  // One round of each; true when it did something.
  bool Round();
  void CountKick(std::uint32_t volume_index, std::uint32_t queue_index);
  // Gives back the queues of clients that truncated their memory.
  void CheckMemory();
  bool ArmAndCheckIdle();

  // How many were busy in the last `busy_rounds` rounds (IsBusyQueue); `now_ns`: for those that
  // were not.
  std::uint32_t CountBusy(std::uint64_t busy_rounds, std::int64_t now_ns);
  // Gives back those that had nothing to do for so long.
  void GiveBackIdle(std::int64_t now_ns, std::int64_t idle_ns);
  // Gives back a busy one whose home has `gap` busy queues fewer than `own_busy`. False: none.
  bool GiveBackToIdler(std::uint32_t own_busy, std::uint32_t gap);
  // Gives back those that were busy at all. For tests: it makes queues wander.
  void GiveBackUsedForTest();

 private:
  struct Entry {
    QueueLoan* loan;
    bool is_busy;
    std::int64_t worked_ns;  // 0: not looked at yet
  };
  void GiveBackAt(std::size_t index);

  WaitSet& waits_;
  std::vector<Entry> queues_;
};

// Empties the eventfd of a kick, which the peer shares: how often it was rung. Never waits.
std::uint64_t TakeKicks(int kick_fd);

}  // namespace filer::bridge
