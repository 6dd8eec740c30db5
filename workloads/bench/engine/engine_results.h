// engine_results.h: everything one `filer bench engine` measured, and what it comes to. Values; no
// threads.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "workloads/bench/engine/cell.h"
#include "workloads/bench/engine/probes.h"
#include "workloads/bench/results.h"

namespace filer::bench {

struct EngineRun {
  std::string subject;
  BackendKind backend = BackendKind::kMemory;
  FileCell cell;
  std::vector<Sample> samples;  // by repetition
  double Median(double Sample::*field) const { return SpreadOf(samples, field).median; }
};

struct EngineResults {
  Json machine;
  CorePair cores;
  int repetitions = 0;
  double seconds_per_run = 0;
  bool is_quick = false;
  FixtureSizes sizes;
  std::uint64_t volume_bytes = 0;
  std::vector<EngineRun> runs;
  std::vector<Skipped> skipped;
  std::vector<std::string> remarks;
  std::optional<CheckpointProbe> checkpoints;
  std::optional<InodeProbe> inodes;

  // The run, or nullptr.
  const EngineRun* Find(std::string_view subject, BackendKind backend, const FileCell& cell) const;
};

// On one backend; nullopt: not measured in this run.
struct BackendSummary {
  using ByCallers = std::map<std::uint32_t, std::optional<double>>;
  ByCallers create_vs_xfs = {{8, {}}, {32, {}}}, create_vs_ext4 = {{8, {}}, {32, {}}};
  std::optional<double> read_vs_backend, write_vs_backend;  // 1 MiB, 8 callers, through the bridge
  std::optional<double> overhead_percent;  // mixed, 8 callers: time through the bridge over direct
};
struct EngineSummary {
  BackendKind backend = BackendKind::kFile;  // that the contract's keys are about; else memory
  std::map<BackendKind, BackendSummary> by_backend;
  std::optional<double> cached_lookup_us;      // lookup and attributes, 1 caller, p50
  std::optional<double> readdir_ns_per_entry;  // 1 caller, p50
  std::optional<double> create_p99_during_checkpoint_ratio;
  std::optional<double> mb_per_million_inodes;
  std::optional<double> recovery_s;
  std::uint64_t recovery_inodes = 0;
};
EngineSummary Summarize(const EngineResults& results);
std::vector<Verdict> Judge(const EngineSummary& summary);

// The contract's document, schema filer.bench.engine/1.
Json ReportJson(const EngineResults& results);
// For a terminal.
std::string ReportTable(const EngineResults& results);
// One self-contained page.
std::string ReportHtml(const EngineResults& results);

}  // namespace filer::bench
