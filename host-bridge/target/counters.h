// counters.h: what a volume did, and how long it took. One writer (a poller: each has its own for
// the queues that it runs), any number of readers (the control socket), who add them up.
#pragma once

#include <array>
#include <cstddef>

#include "host-bridge/backend/backend.h"
#include "host-bridge/target/counter.h"
#include "host-bridge/target/latency.h"

namespace filer::bridge {

// Completed ones; `bytes` of those that succeeded.
struct OperationCounters {
  Counter requests, bytes;
};

struct alignas(64) VolumeCounters {  // no line that two pollers write
  // By BackendOperation, so that a mix of reads and writes is counted without a branch.
  std::array<OperationCounters, 5> operations;
  Counter requests, errors;
  Counter kicks;       // notifications received
  Counter interrupts;  // notifications sent
  Counter copied_bytes, transferred_bytes;
  Counter protocol_errors;  // sessions and queues ended because the peer broke the protocol
  Counter sessions;         // clients served so far
  Counter holds;            // rounds that left requests in the ring because of the volume's limits
  VolumeLatencies latencies;

  OperationCounters& Of(BackendOperation operation) {
    return operations[static_cast<std::size_t>(operation)];
  }
  const OperationCounters& Of(BackendOperation operation) const {
    return operations[static_cast<std::size_t>(operation)];
  }

  // Adds what `other` counted until now, which may go on counting.
  void AddAll(const VolumeCounters& other);
};

}  // namespace filer::bridge
