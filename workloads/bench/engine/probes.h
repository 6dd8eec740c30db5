// probes.h: what no closed loop shows: creates while checkpoints are written, the memory of inodes,
// and a mount after a crash. On one of our subjects, whose file system is mounted anew. Blocking.
#pragma once

#include <cstdint>

#include "workloads/bench/engine/file_subject.h"

namespace filer::bench {

struct CheckpointProbe {
  double p99_us = 0;                    // checkpoints one after the other, a millisecond in between
  double p99_quiet_us = 0;              // none
  std::uint64_t checkpoints = 0;        // in all repetitions
  std::uint64_t quiet_checkpoints = 0;  // that a filling log asked for although none was wanted
};
// `repetitions` of `seconds` each way, in turns; 8 callers. Errors: those of the runs.
Result<CheckpointProbe> MeasureCheckpoints(FileSubject& subject, double seconds, int repetitions,
                                           std::uint64_t& serial);

struct InodeProbe {
  std::uint64_t inodes = 0;
  std::uint64_t cached_inodes = 0;  // of them, looked up for the next figure
  double bytes_per_inode = 0;       // private memory of this process that took; 0: not measured
  double recovery_s = 0;            // mount with the log as it was when all had been made
  std::uint64_t recovered_groups = 0;
};
// Makes `count` empty files. Errors: the engine's.
Result<InodeProbe> MeasureInodes(EngineFiles& files, std::uint32_t count);

}  // namespace filer::bench
