// closer.h: a thread that destroys what a peer gave: close(2) may wait for the peer's file system
// (a FUSE server that does not answer FLUSH), for its socket (SO_LINGER), also through descriptors
// that sit unread in a socket, and the last unmapping of a guest's memory frees all of it. None of
// that may happen on the poller.
//
// Invariant: what is given away refers to nothing that its giver still owns.
// Threads: Create, Give and the destructor by one; backlog by any.
#pragma once

#include <memory>
#include <utility>

#include "base/file.h"
#include "base/result.h"

namespace filer::bridge {

class Closer {
 public:
  // Errors: kSystem.
  static Result<std::unique_ptr<Closer>> Create();
  // Waits 0.2 s for the rest; after that the thread is left to finish it alone.
  ~Closer();

  template <typename T>
  void Give(T thing) {
    Push(std::make_unique<Holder<T>>(std::move(thing)));
  }
  // What was given and is not yet destroyed.
  std::size_t backlog() const;
  // Readable, for DrainIdle, after the backlog has become 0.
  int idle_fd() const;
  void DrainIdle();

 private:
  struct Thing {
    virtual ~Thing() = default;
  };
  template <typename T>
  struct Holder : Thing {
    explicit Holder(T held) : thing(std::move(held)) {}
    T thing;
  };
  struct State;

  explicit Closer(std::shared_ptr<State> state);
  void Push(std::unique_ptr<Thing> thing);
  static void Run(State& state);

  std::shared_ptr<State> state_;  // the thread's as well
};

}  // namespace filer::bridge
