// idle.h: what a bridge costs while nothing happens, and what the first request pays afterwards.
#pragma once

#include "workloads/bench/results.h"

namespace filer::bench {

// Starts a bridge on the memory backend, attaches, lets both ends rest for `seconds`, then asks for
// single requests with pauses between them. Blocks for `seconds` and some hundred milliseconds.
// Errors: those of the bridge's start and of attaching, kTimedOut, kIo.
Result<Idle> MeasureIdle(const SubjectPlace& place, double seconds);

}  // namespace filer::bench
