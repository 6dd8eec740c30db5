// engine_runner.h: the whole of `filer bench engine`: makes the file systems of one backend after
// the other, and drives them in turns, so that what changes on the machine changes for all of them.
#pragma once

#include <string>
#include <vector>

#include "workloads/bench/engine/engine_results.h"
#include "workloads/bench/runner.h"

namespace filer::bench {

struct EngineBenchOptions {
  bool is_quick = false;
  int repetitions = 5;
  double seconds = 0.5;  // measured, of one repetition of one cell
  std::vector<std::string> subjects = FileSubjectNames();
  std::vector<BackendKind> backends = {BackendKind::kMemory, BackendKind::kFile};
  std::vector<FileCell> cells;
  bool wants_checkpoints = true, wants_inodes = true;  // the probes
  std::string folder = "/var/tmp";                     // for the file backend
  std::string programs;                                // host-bridge is here
};

// Repetitions of cells over all subjects and backends.
std::size_t RunCount(const EngineBenchOptions& options);

// Blocks for minutes; pins the calling thread. Leaves nothing behind.
// File systems of the kernel that cannot be had are skipped and said so; ours must work. Errors:
// kNotSupported, kCancelled, kTimedOut, kIo, kSystem, the engine's.
Result<EngineResults> RunEngineBench(const EngineBenchOptions& options,
                                     const OnProgress& on_progress);

}  // namespace filer::bench
