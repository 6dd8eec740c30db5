// counters.h: what a volume did, and how long it took. One writer (a poller: each has its own for
// the queues that it runs), any number of readers (the control socket), who add them up.
#pragma once

#include "host-bridge/target/counter.h"
#include "host-bridge/target/latency.h"

namespace filer::bridge {

struct alignas(64) VolumeCounters {  // no line that two pollers write
  Counter requests, reads, writes, flushes, errors;
  Counter read_bytes, write_bytes;
  Counter kicks;       // notifications received
  Counter interrupts;  // notifications sent
  Counter copied_bytes, transferred_bytes;
  Counter protocol_errors;  // sessions and queues ended because the peer broke the protocol
  Counter sessions;         // clients served so far
  Counter discards;         // and write-zeroes
  Counter holds;            // rounds that left requests in the ring because of the volume's limits
  VolumeLatencies latencies;

  // Adds what `other` counted until now, which may go on counting.
  void AddAll(const VolumeCounters& other);
};

}  // namespace filer::bridge
