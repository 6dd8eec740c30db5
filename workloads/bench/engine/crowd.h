// crowd.h: some callers at once, each on a thread of its own, in a closed loop; measured for a
// while.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "workloads/bench/engine/caller.h"
#include "workloads/bench/histogram.h"

namespace filer::bench {

struct CrowdSpec {
  FileCell cell;
  double seconds = 0.1;
  std::vector<int> cores;    // where the callers run
  std::uint64_t serial = 0;  // of this run: names and random numbers follow from it
  // Called at both ends of the window, on the calling thread.
  std::function<void(bool is_end)> at_window;
};

struct CrowdResult {
  std::uint64_t operations = 0, bytes = 0, entries = 0;
  double seconds = 0;
  Histogram latency_ticks;
};

// A fifth of the time goes before, unmeasured. The window ends early when a caller has nothing
// left, and late (ten seconds at most) when nothing was done in it. Blocking. Errors: the first of
// a caller, kTimedOut.
Result<CrowdResult> RunCrowd(FileSystem& files, const Fixture& fixture, const CrowdSpec& spec);

}  // namespace filer::bench
