// queue_gate.h: mutual exclusion between one user who comes a hundred million times and others who
// hardly ever come. Enter and Leave cost a store each and no locked instruction: whoever calls
// Close pays for both sides, with a barrier in every thread of the process (membarrier(2)). Where
// the kernel has none, Enter pays a full fence itself.
//
// Threads: Enter and Leave by one thread at a time (who takes turns orders them); Close and Open by
// any other, or by the same one outside of Enter and Leave. Nobody may call Close within Enter.
#pragma once

#include <atomic>

#include "base/thread_annotations.h"

namespace filer::bridge {

class FILER_CAPABILITY("mutex") QueueGate {
 public:
  QueueGate();

  void Enter() FILER_ACQUIRE() {
    is_inside_.store(true, std::memory_order_relaxed);
    if (has_barrier_) {
      std::atomic_signal_fence(std::memory_order_seq_cst);  // the other half is Close's membarrier
    } else {
      std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the fence in Close
    }
    if (is_closed_.load(std::memory_order_acquire)) [[unlikely]]
      EnterSlowly();  // pairs with Open
  }
  void Leave() FILER_RELEASE() {
    is_inside_.store(false, std::memory_order_release);  // pairs with Close's load
  }

  // Waits until nobody is inside, and keeps it so until Open.
  void Close() FILER_ACQUIRE();
  void Open() FILER_RELEASE();

 private:
  void EnterSlowly();

  std::atomic<bool> is_inside_ = false;
  std::atomic<bool> is_closed_ = false;
  const bool has_barrier_;
  std::mutex closing_;  // held while it is closed
};

// The frequent side, for its own lifetime.
class FILER_SCOPED_CAPABILITY GateEntry {
 public:
  explicit GateEntry(QueueGate& gate) FILER_ACQUIRE(gate) : gate_(gate) { gate_.Enter(); }
  ~GateEntry() FILER_RELEASE() { gate_.Leave(); }
  GateEntry(const GateEntry&) = delete;
  GateEntry& operator=(const GateEntry&) = delete;

 private:
  QueueGate& gate_;
};

// The rare side, for its own lifetime.
class FILER_SCOPED_CAPABILITY GateClosure {
 public:
  explicit GateClosure(QueueGate& gate) FILER_ACQUIRE(gate) : gate_(gate) { gate_.Close(); }
  ~GateClosure() FILER_RELEASE() { gate_.Open(); }
  GateClosure(const GateClosure&) = delete;
  GateClosure& operator=(const GateClosure&) = delete;

 private:
  QueueGate& gate_;
};

}  // namespace filer::bridge
