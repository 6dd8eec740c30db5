#include "host-bridge/target/borrowed_queues.h"

#include <sys/uio.h>

#include "host-bridge/target/session.h"

namespace filer::bridge {

std::uint64_t TakeKicks(int kick_fd) {
  std::uint64_t count = 0;
  const iovec into{&count, sizeof(count)};
  // Somebody else may have emptied it meanwhile, and O_NONBLOCK is the peer's to clear: RWF_NOWAIT
  // is ours.
  return ::preadv2(kick_fd, &into, 1, -1, RWF_NOWAIT) == sizeof(count) ? count : 0;
}

void BorrowedQueues::Take(QueueLoan& loan) {
  queues_.push_back({&loan, true, 0});
  const auto wait = [&](int fd, WaitKind kind) {
    return fd < 0 || waits_.Add(fd, {kind, loan.volume_index, loan.queue_index}).has_value();
  };
  const bool is_waited_for =
      wait(loan.kick_fd, WaitKind::kKick) && wait(loan.wait_fd, WaitKind::kBackend);
  if (!is_waited_for) GiveBackAt(queues_.size() - 1);
}

void BorrowedQueues::GiveBackAt(std::size_t index) {
  QueueLoan& loan = *queues_[index].loan;
  queues_.erase(queues_.begin() + static_cast<std::ptrdiff_t>(index));
  if (loan.kick_fd >= 0) waits_.Remove(loan.kick_fd);
  if (loan.wait_fd >= 0) waits_.Remove(loan.wait_fd);
  loan.home->Send({NoteKind::kReturn, &loan});  // nothing of it is touched from here on
}

void BorrowedQueues::GiveBack(const QueueLoan* loan) {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].loan == loan) return GiveBackAt(i);
  }
}

void BorrowedQueues::GiveBackAll() {
  while (!queues_.empty()) GiveBackAt(queues_.size() - 1);
}

bool BorrowedQueues::Round() {
  bool did_work = false;
  for (std::size_t i = 0; i < queues_.size();) {
    BlockQueue& queue = *queues_[i].loan->queue;
    did_work |= queue.Round();
    if (queue.fault() == RingFault::kNone && queue.miss() == nullptr) [[likely]] {
      ++i;
    } else {
      GiveBackAt(i);
      did_work = true;
    }
  }
  return did_work;
}

void BorrowedQueues::CountKick(std::uint32_t volume_index, std::uint32_t queue_index) {
  for (const Entry& entry : queues_) {
    const QueueLoan& loan = *entry.loan;
    if (loan.volume_index != volume_index || loan.queue_index != queue_index) continue;
    if (loan.kick_fd >= 0) loan.queue->CountKicks(TakeKicks(loan.kick_fd));
  }
}

void BorrowedQueues::CheckMemory() {
  for (std::size_t i = 0; i < queues_.size();) {
    if (queues_[i].loan->session->HasBrokenMemory()) {
      GiveBackAt(i);
    } else {
      ++i;
    }
  }
}

bool BorrowedQueues::ArmAndCheckIdle() {
  bool is_idle = true;
  for (const Entry& entry : queues_) is_idle &= entry.loan->queue->ArmAndCheckIdle();
  // Rings were touched just now, as in Session::ArmAndCheckIdle.
  CheckMemory();
  return is_idle;
}

std::uint32_t BorrowedQueues::CountBusy(std::uint64_t busy_rounds, std::int64_t now_ns) {
  std::uint32_t count = 0;
  for (Entry& entry : queues_) {
    const std::uint32_t worked = entry.loan->queue->TakeWorkedRounds();
    if (worked > 0 || entry.worked_ns == 0) entry.worked_ns = now_ns;
    entry.is_busy = IsBusyQueue(worked, busy_rounds);
    if (entry.is_busy) ++count;
  }
  return count;
}

void BorrowedQueues::GiveBackIdle(std::int64_t now_ns, std::int64_t idle_ns) {
  for (std::size_t i = 0; i < queues_.size();) {
    if (queues_[i].worked_ns != 0 && now_ns - queues_[i].worked_ns >= idle_ns) {
      GiveBackAt(i);
    } else {
      ++i;
    }
  }
}

bool BorrowedQueues::GiveBackToIdler(std::uint32_t own_busy, std::uint32_t gap) {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    Desk& home = *queues_[i].loan->home;
    if (!queues_[i].is_busy || home.busy_queues() + gap > own_busy) continue;
    home.AddBusyQueue();
    GiveBackAt(i);
    return true;
  }
  return false;
}

void BorrowedQueues::GiveBackUsedForTest() {
  constexpr std::uint32_t kRoundsEach = 3;
  for (std::size_t i = 0; i < queues_.size();) {
    if (queues_[i].loan->queue->worked_rounds() >= kRoundsEach) {
      GiveBackAt(i);
    } else {
      ++i;
    }
  }
}

}  // namespace filer::bridge
