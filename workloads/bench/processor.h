// processor.h: cores and the time spent on them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace filer::bench {

// Cores this process may use, ascending.
std::vector<int> AllowedCores();

struct CorePair {
  int load = -1;    // of the front end: our side
  int server = -1;  // of the target
};
// Two allowed cores that are no hyper-threads of each other, where there are such. Errors:
// kNotSupported with fewer than two cores.
Result<CorePair> ChooseCores();

// Pins the calling thread. Errors: kSystem.
Result<void> PinThread(int core);

// Processor time in nanoseconds: of the calling thread; of a process with all its threads (0 when
// it is gone). Never blocks.
std::int64_t ThreadCpuNs();
std::int64_t ProcessCpuNs(pid_t pid);

}  // namespace filer::bench
