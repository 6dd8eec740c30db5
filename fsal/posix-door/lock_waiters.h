// lock_waiters.h: byte-range locks of programs that wait (F_SETLKW), without holding up a thread
// each.
//
// The engine's Lock never waits. A request that meets a conflict is parked here; a registration
// with the engine (WatchUnlocks) wakes one thread of ours whenever a lock of that file was
// released, by any door, and the thread tries again. Deadlocks between owners are not looked for
// (fcntl(2): EDEADLK). Threads: all methods from any thread; `answer` runs on the caller's thread
// or on ours, without locks, exactly once per request.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::posix_door {

class LockWaiters {
 public:
  explicit LockWaiters(engine::Engine& engine);
  ~LockWaiters();  // as Stop

  struct Request {
    engine::NodeId node;
    std::string owner;
    engine::LockRange range;
  };
  // Granted, or the error: kCancelled after Cancel or Stop. Returns false if the grant could not be
  // delivered (the program is gone): the lock is then given back.
  using Answer = std::function<bool(Result<void> outcome)>;

  // Tries at once; parks the request if there is a conflict. `before_parking` gets the ticket for
  // Cancel before anybody else can answer the request.
  void LockOrWait(const Request& request, Answer answer,
                  const std::function<void(std::uint64_t ticket)>& before_parking);
  // The request is answered with kCancelled soon, on our thread, unless it was answered before. May
  // be called with foreign locks held.
  void Cancel(std::uint64_t ticket);
  // Answers all with kCancelled, now and from now on.
  void Stop();

  std::size_t WaitingCount() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace filer::posix_door
