// predecessors.h: what an agent that was killed left behind on the host: its servers, which may
// still be writing to the volume while they end, and hold ports and the bridge until then.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"

namespace filer::agent {

// Asks every ganesha.nfsd and smbd whose command line names a file below `run_dir` to end, waits
// for them, and kills what is left after `grace`. Only in a run folder of our own can such
// processes be. Blocking. Errors: kTimedOut.
Result<void> EndPredecessors(const std::string& run_dir, std::chrono::milliseconds grace);

}  // namespace filer::agent
