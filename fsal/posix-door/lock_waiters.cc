#include "fsal/posix-door/lock_waiters.h"

#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_annotations.h"

namespace filer::posix_door {
namespace {

struct Waiter {
  LockWaiters::Request request;
  LockWaiters::Answer answer;
  std::uint64_t registration = 0;
  bool must_retry = false;
  bool is_cancelled = false;
};

// nullopt: there is still a conflict.
std::optional<Result<void>> TryLock(engine::Engine& engine, const LockWaiters::Request& request) {
  auto conflict = engine.Lock(request.node, request.owner, request.range);
  if (!conflict.has_value()) return Result<void>(std::move(conflict).assume_error());
  if (conflict.value().has_value()) return std::nullopt;
  return Result<void>(Ok());
}

void Deliver(engine::Engine& engine, const LockWaiters::Request& request,
             const LockWaiters::Answer& answer, Result<void> outcome) {
  const bool is_granted = outcome.has_value();
  if (answer(std::move(outcome)) || !is_granted) return;
  // Nobody is there any more to hold it. An error means that the file is gone, and its locks with
  // it.
  static_cast<void>(engine.Unlock(request.node, request.owner, request.range.offset_bytes,
                                  request.range.length_bytes));
}

}  // namespace

// Outlives the LockWaiters as long as the engine may still call a `wake`.
struct LockWaiters::State {
  explicit State(engine::Engine& of_engine) : engine(of_engine) {}

  engine::Engine& engine;
  mutable Mutex mutex;
  CondVar changed;
  std::map<std::uint64_t, Waiter> waiters FILER_GUARDED_BY(mutex);
  std::uint64_t next_ticket FILER_GUARDED_BY(mutex) = 1;
  bool is_stopped FILER_GUARDED_BY(mutex) = false;
  std::thread thread;

  void MarkForRetry(std::uint64_t ticket) {
    const MutexLock lock(mutex);
    const auto found = waiters.find(ticket);
    if (found == waiters.end()) return;
    found->second.must_retry = true;
    changed.NotifyAll();
  }

  // Takes a waiter out, so that exactly one thread answers it.
  std::optional<Waiter> Take(std::uint64_t ticket) {
    const MutexLock lock(mutex);
    auto node = waiters.extract(ticket);
    if (node.empty()) return std::nullopt;
    return std::move(node.mapped());
  }

  // Waits for work; the ticket of a waiter to look at, or nullopt to end.
  std::optional<std::uint64_t> NextTicket() {
    MutexLock lock(mutex);
    for (;;) {
      for (auto& [ticket, waiter] : waiters) {
        if (is_stopped || waiter.is_cancelled || waiter.must_retry) {
          waiter.must_retry = false;
          return ticket;
        }
      }
      if (is_stopped) return std::nullopt;
      changed.Wait(lock);
    }
  }

  void Attend(std::uint64_t ticket) {
    std::optional<Request> request;
    bool is_over = false;
    {
      const MutexLock lock(mutex);
      const auto found = waiters.find(ticket);
      if (found == waiters.end()) return;
      request = found->second.request;
      is_over = is_stopped || found->second.is_cancelled;
    }
    std::optional<Result<void>> outcome;
    if (is_over) {
      outcome = Result<void>(Errc::kCancelled);
    } else {
      outcome = TryLock(engine, *request);
      if (!outcome) return;  // stays parked; the next release marks it again
    }
    std::optional<Waiter> waiter = Take(ticket);
    if (!waiter) return;
    if (waiter->registration != 0) engine.CancelWatch(waiter->registration);
    Deliver(engine, waiter->request, waiter->answer, std::move(*outcome));
  }

  void Run() {
    engine::SetDoor(engine::kDoorPosix);
    while (const auto ticket = NextTicket()) Attend(*ticket);
  }
};

LockWaiters::LockWaiters(engine::Engine& engine) : state_(std::make_shared<State>(engine)) {
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

LockWaiters::~LockWaiters() { Stop(); }

void LockWaiters::LockOrWait(const Request& request, Answer answer,
                             const std::function<void(std::uint64_t ticket)>& before_parking) {
  if (auto outcome = TryLock(state_->engine, request)) {
    Deliver(state_->engine, request, answer, std::move(*outcome));
    return;
  }
  std::uint64_t ticket = 0;
  {
    MutexLock lock(state_->mutex);
    if (state_->is_stopped) {
      lock.Unlock();
      answer(Errc::kCancelled);
      return;
    }
    ticket = state_->next_ticket++;
    state_->waiters.emplace(ticket, Waiter{.request = request, .answer = std::move(answer)});
  }
  before_parking(ticket);
  const std::uint64_t registration =
      state_->engine.WatchUnlocks(request.node, [weak = std::weak_ptr<State>(state_), ticket] {
        if (const auto state = weak.lock()) state->MarkForRetry(ticket);
      });
  MutexLock lock(state_->mutex);
  const auto found = state_->waiters.find(ticket);
  if (found == state_->waiters.end()) {  // cancelled and answered meanwhile
    lock.Unlock();
    state_->engine.CancelWatch(registration);
    return;
  }
  // Tried again at once: the lock may have been released between the first try and the
  // registration.
  found->second.registration = registration;
  found->second.must_retry = true;
  state_->changed.NotifyAll();
}

void LockWaiters::Cancel(std::uint64_t ticket) {
  const MutexLock lock(state_->mutex);
  const auto found = state_->waiters.find(ticket);
  if (found == state_->waiters.end()) return;
  found->second.is_cancelled = true;
  state_->changed.NotifyAll();
}

void LockWaiters::Stop() {
  {
    const MutexLock lock(state_->mutex);
    state_->is_stopped = true;
    state_->changed.NotifyAll();
  }
  if (state_->thread.joinable()) state_->thread.join();
}

std::size_t LockWaiters::WaitingCount() const {
  const MutexLock lock(state_->mutex);
  return state_->waiters.size();
}

}  // namespace filer::posix_door
