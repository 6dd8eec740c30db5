// notifier.h: rings an eventfd that a peer shares, without ever waiting for the peer. O_NONBLOCK
// would not do: it belongs to the open file, and the peer can clear it again at any time, also
// between our looking at it and our writing. So the eventfd is registered with an io_uring of its
// own, and a no-op completed there makes the kernel ring it: that has no way to wait, and a counter
// that is full stays full.
// Threads: one at a time.
#pragma once

#include <memory>

#include "base/file.h"
#include "base/result.h"

namespace filer::bridge {

class Notifier {
 public:
  Notifier();
  Notifier(Notifier&& other) noexcept;
  Notifier& operator=(Notifier&& other) noexcept;
  ~Notifier();

  // Rings `event` from now on, which may be closed then. Does not block.
  // Errors: kProtocol (no eventfd), kSystem (no io_uring); it then rings nothing.
  Result<void> Aim(const UniqueFd& event);
  // Rings nothing from now on.
  void Disarm();
  bool is_armed() const { return is_armed_; }
  // Adds one to the counter, and wakes who waits for it. Only when armed. False: the kernel could
  // not (no memory), try again later.
  bool Ring();

 private:
  struct Queue;
  std::unique_ptr<Queue> queue_;  // kept from the first Aim on: a front end aims often
  bool is_armed_ = false;
};

}  // namespace filer::bridge
