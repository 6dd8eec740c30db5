// runner.h: the whole of `filer bench bridge`: starts the subjects of one backend after the other,
// and drives them in turns, so that what changes on the machine changes for all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "workloads/bench/results.h"

namespace filer::bench {

// Those of SubjectKinds.
std::vector<std::string> SubjectNames();

struct BenchOptions {
  bool is_quick = false;
  int repetitions = 5;
  double seconds =
      0.3;  // measured, of one repetition of one cell; a fifth of it before, unmeasured
  std::optional<CorePair> cores;  // else chosen
  std::vector<std::string> subjects = SubjectNames();
  std::vector<BackendKind> backends = {BackendKind::kNull, BackendKind::kMemory,
                                       BackendKind::kFile};
  std::vector<Cell> cells;
  std::string folder = "/var/tmp";  // for the files of the file backend; should take O_DIRECT
  std::string programs;             // host-bridge and filer-rte-vhost-target are here
  const std::atomic<bool>* stop = nullptr;  // turning true ends whatever is running: kCancelled
};

// Repetitions of cells over all subjects and backends.
std::size_t RunCount(const BenchOptions& options);

// 24 cells, or the 10 that carry the most within four minutes.
std::vector<Cell> FullCells();
std::vector<Cell> QuickCells();

// Called between two runs with the share of work done; false: stop (kCancelled).
using OnProgress = std::function<bool(double share, const std::string& what)>;

// Blocks for minutes; pins the calling thread. Leaves nothing behind. A peer that cannot be had is
// skipped and said so; those that are required must work. Errors: kNotSupported, kCancelled,
// kCorrupt, kTimedOut, kIo, kSystem.
Result<Results> RunBench(const BenchOptions& options, const OnProgress& on_progress);

}  // namespace filer::bench
