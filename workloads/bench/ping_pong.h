// ping_pong.h: the ground under every figure of the bridge: how long one cache line takes from one
// core to the other and back.
#pragma once

#include "base/result.h"
#include "workloads/bench/histogram.h"
#include "workloads/bench/processor.h"

namespace filer::bench {

struct PingPong {
  double median_ns = 0;    // of a round trip, in batches: the clock's own cost does not show
  Histogram single_ticks;  // single round trips
};

// Blocks some milliseconds; the calling thread must be pinned to `cores.load`, a thread of its own
// answers on `cores.server`. Errors: kSystem, kTimedOut.
Result<PingPong> MeasurePingPong(const CorePair& cores);

// Cores behind one cache answer within this; "far" ones cross a mesh or a socket. Both sides of the
// line were seen on one machine: 120 and 525 ns.
inline constexpr double kNearNsMax = 250;

}  // namespace filer::bench
