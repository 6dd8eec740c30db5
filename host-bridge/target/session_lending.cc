// session_lending.cc: a session's queues at other pollers. What a queue reads of its session
// (memory, IOTLB, the device's size and features) changes only while all queues are at home, so a
// session calls them back before it executes any message, and before it ends.
#include <algorithm>

#include "base/assert.h"
#include "host-bridge/target/session.h"

namespace filer::bridge {
namespace {

// After a message or a recall the queues stay for so many looks (NoteLoad): messages come in
// groups.
constexpr std::uint32_t kSettleLooks = 10;

}  // namespace

bool Session::MayLend(const Ring& ring) const {
  return ring.queue != nullptr && !ring.is_away && ring.is_enabled && !ring.needs_translation &&
         !ring.is_broken && ring.queue->fault() == RingFault::kNone &&
         ring.queue->miss() == nullptr;
}

bool Session::MayLend() const {
  const bool is_limited = options_.limiter != nullptr && options_.limiter->is_limited();
  return !is_limited && !is_ending_ && !waiting_ && !HasBrokenMemory();
}

void Session::NoteLoad(std::uint64_t busy_rounds, SessionLoad& load) {
  if (settle_looks_ > 0) --settle_looks_;
  const bool may_lend = settle_looks_ == 0 && MayLend();
  for (std::uint32_t i = 0; i < rings_.size(); ++i) {
    Ring& ring = rings_[i];
    if (ring.queue == nullptr || ring.is_away) continue;
    if (!IsBusyQueue(ring.queue->TakeWorkedRounds(), busy_rounds)) continue;
    ++load.busy_queues;
    if (may_lend && MayLend(ring)) load.lendable_queue = i;
  }
}

void Session::Lend(std::uint32_t queue_index, Desk& borrower, VolumeCounters& counters) {
  Ring& ring = rings_[queue_index];
  FILER_ASSERT(MayLend(ring));
  if (ring.kick.is_open()) waits_.Remove(ring.kick.get());
  if (ring.wait_fd >= 0) waits_.Remove(ring.wait_fd);
  ring.queue->SetCounters(counters);
  ring.queue->SetLimiter(nullptr);  // has none: MayLend. One that comes calls the queue back first
  ring.queue->TakeWorkedRounds();
  ring.is_away = true;
  ring.is_recalled = false;
  ++away_count_;
  ring.loan = {this,          ring.queue.get(), options_.volume_index,
               queue_index,   ring.kick.get(),  ring.wait_fd,
               options_.desk, &borrower};
  borrower.Send({NoteKind::kLend, &ring.loan});
}

bool Session::CallHome() {
  if (away_count_ == 0) return true;
  for (Ring& ring : rings_) {
    if (!ring.is_away || ring.is_recalled) continue;
    ring.is_recalled = true;
    ring.loan.borrower->Send({NoteKind::kRecall, &ring.loan});
  }
  settle_looks_ = kSettleLooks;
  return false;
}

void Session::OnReturned(const QueueLoan& loan) {
  Ring& ring = rings_[loan.queue_index];
  FILER_ASSERT(&loan == &ring.loan && ring.is_away);
  ring.is_away = false;
  --away_count_;
  ring.queue->SetCounters(counters_);
  ring.queue->SetLimiter(options_.limiter);
  ring.queue->TakeWorkedRounds();
  const auto wait = [&](int fd, WaitKind kind) {
    if (fd < 0) return;
    const auto added = waits_.Add(fd, {kind, options_.volume_index, loan.queue_index});
    if (!added.has_value()) End(added.assume_error());
  };
  wait(ring.kick.get(), WaitKind::kKick);
  wait(ring.wait_fd, WaitKind::kBackend);
  UpdateAccepting();
}

std::uint32_t Session::LendAllForTest(Desk& borrower, VolumeCounters& counters) {
  const std::uint32_t away_before = away_count_;
  for (std::uint32_t i = 0; i < rings_.size(); ++i) {
    if (MayLend() && MayLend(rings_[i])) Lend(i, borrower, counters);
  }
  return away_count_ - away_before;
}

}  // namespace filer::bridge
