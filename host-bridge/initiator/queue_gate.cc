#include "host-bridge/initiator/queue_gate.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"

namespace filer::bridge {
namespace {

long Membarrier(int command) { return ::syscall(SYS_membarrier, command, 0U, 0); }

// The process must say once that it will use it.
bool RegisterBarrier() {
  static const bool is_registered = Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
  return is_registered;
}

}  // namespace

QueueGate::QueueGate() : has_barrier_(RegisterBarrier()) {}

void QueueGate::EnterSlowly() {
  is_inside_.store(false, std::memory_order_release);  // pairs with Close's load
  const std::lock_guard lock(closing_);                // it is open from here on
  is_inside_.store(true, std::memory_order_relaxed);   // seen by the next Close through the mutex
}

void QueueGate::Close() {
  closing_.lock();
  is_closed_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (has_barrier_) {
    const long failed = Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    FILER_ASSERT(failed == 0);  // it was registered
  }
  // From here on: who entered before is seen inside, who enters later sees it closed.
  while (is_inside_.load(std::memory_order_acquire)) ::sched_yield();  // pairs with Leave
}

void QueueGate::Open() {
  is_closed_.store(false, std::memory_order_release);  // pairs with Enter
  closing_.unlock();
}

}  // namespace filer::bridge
