// predecessors.h: what an agent that was killed left behind on the host: its servers, which may
// still be writing to the volume while they end, and hold ports and the bridge until then. The next
// agent ends them before it starts its own, and `filer down` before it stops the bridge.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/result.h"

namespace filer::agent {

// What a server that is asked to end gets: the engine writes what was not synced, and a checkpoint.
inline constexpr std::chrono::milliseconds kServerGrace{30'000};

// Every ganesha.nfsd and smbd with an argument that names a file below `run_dir`. Only in a run
// folder of our own can such processes be.
std::vector<ProcessId> FindPredecessors(const std::string& run_dir);

struct EndedPredecessors {
  std::size_t count = 0;
  std::size_t killed_count = 0;  // of those, which did not end within the grace
};
// Asks them to end, waits for them, and kills what is left after `grace`. Blocking. Errors:
// kTimedOut, kSystem.
Result<EndedPredecessors> EndPredecessors(const std::string& run_dir,
                                          std::chrono::milliseconds grace);

}  // namespace filer::agent
