#include "workloads/bench/engine/engine_results.h"

#include <fmt/format.h>

#include <algorithm>

namespace filer::bench {
namespace {

constexpr FileCell kStatCell = {FileWorkload::kStat, 1};
constexpr FileCell kReaddirCell = {FileWorkload::kReaddir, 1};
constexpr FileCell kReadCell = {FileWorkload::kReadSequential, 8};
constexpr FileCell kWriteCell = {FileWorkload::kWriteSequential, 8};
constexpr FileCell kMixedCell = {FileWorkload::kMixed, 8};
constexpr double kRecoveryInodes = 10e6;  // of the target

// Of repetitions that were measured side by side.
std::optional<double> MedianRatio(const EngineRun* ours, const EngineRun* theirs,
                                  double Sample::*field) {
  if (ours == nullptr || theirs == nullptr) return std::nullopt;
  std::vector<double> ratios;
  const std::size_t count = std::min(ours->samples.size(), theirs->samples.size());
  for (std::size_t i = 0; i < count; ++i) {
    ratios.push_back(ours->samples[i].*field / std::max(theirs->samples[i].*field, 1e-9));
  }
  if (ratios.empty()) return std::nullopt;
  return SpreadOf(std::move(ratios)).median;
}

BackendSummary SummarizeBackend(const EngineResults& results, BackendKind backend) {
  const auto find = [&](std::string_view subject, const FileCell& cell) {
    return results.Find(subject, backend, cell);
  };
  const auto against = [&](std::string_view ours, std::string_view theirs, const FileCell& cell,
                           double Sample::*field) {
    return MedianRatio(find(ours, cell), find(theirs, cell), field);
  };
  BackendSummary summary;
  for (const std::uint32_t threads : {1U, 2U, 8U, 32U}) {
    const FileCell cell = {FileWorkload::kCreate, threads};
    summary.create_vs_xfs[threads] = against(kNearmetalBridge, kXfs, cell, &Sample::iops);
    summary.create_vs_ext4[threads] = against(kNearmetalBridge, kExt4, cell, &Sample::iops);
  }
  summary.read_vs_backend = against(kNearmetalBridge, kBackendAlone, kReadCell, &Sample::mb_per_s);
  summary.write_vs_backend =
      against(kNearmetalBridge, kBackendAlone, kWriteCell, &Sample::mb_per_s);
  if (const auto ratio = against(kNearmetalDirect, kNearmetalBridge, kMixedCell, &Sample::iops)) {
    summary.overhead_percent = (*ratio - 1) * 100;
  }
  return summary;
}

// Of what is in memory the backend has no part: the first that was measured.
const EngineRun* FindCached(const EngineResults& results, const FileCell& cell) {
  for (const BackendKind backend : {BackendKind::kMemory, BackendKind::kFile}) {
    for (const std::string_view subject : {kNearmetalBridge, kNearmetalDirect}) {
      if (const EngineRun* run = results.Find(subject, backend, cell)) return run;
    }
  }
  return nullptr;
}

std::optional<double> Times(std::optional<double> value, double factor) {
  return value ? std::optional<double>(*value * factor) : value;
}

// A tenth of the inodes says little about all of them: short of the target's number it can be
// missed, not met.
Verdict JudgeRecovery(const EngineSummary& summary) {
  Verdict verdict = AtMost("recovery of a volume with 10M files", summary.recovery_s, 2, " s");
  if (!summary.recovery_s || static_cast<double>(summary.recovery_inodes) >= kRecoveryInodes) {
    return verdict;
  }
  verdict.measured +=
      fmt::format(" with {} files", HumanCount(static_cast<double>(summary.recovery_inodes)));
  if (verdict.is_met == true) verdict.is_met = std::nullopt;
  return verdict;
}

}  // namespace

const EngineRun* EngineResults::Find(std::string_view subject, BackendKind backend,
                                     const FileCell& cell) const {
  for (const EngineRun& run : runs) {
    if (run.subject == subject && run.backend == backend && run.cell == cell) return &run;
  }
  return nullptr;
}

EngineSummary Summarize(const EngineResults& results) {
  EngineSummary summary;
  for (const EngineRun& run : results.runs) summary.by_backend[run.backend] = {};
  for (auto& [backend, of] : summary.by_backend) of = SummarizeBackend(results, backend);
  if (!summary.by_backend.contains(BackendKind::kFile)) summary.backend = BackendKind::kMemory;
  if (const EngineRun* run = FindCached(results, kStatCell)) {
    summary.cached_lookup_us = run->Median(&Sample::p50_us);
  }
  if (const EngineRun* run = FindCached(results, kReaddirCell)) {
    summary.readdir_ns_per_entry =
        run->Median(&Sample::p50_us) * 1e3 / std::max<double>(results.sizes.names, 1);
  }
  if (const auto& probe = results.checkpoints; probe && probe->checkpoints > 0) {
    summary.create_p99_during_checkpoint_ratio =
        probe->p99_us / std::max(probe->p99_quiet_us, 1e-9);
  }
  if (results.inodes) {
    // A byte each is a megabyte for a million.
    if (results.inodes->bytes_per_inode > 0) {
      summary.mb_per_million_inodes = results.inodes->bytes_per_inode;
    }
    summary.recovery_s = results.inodes->recovery_s;
    summary.recovery_inodes = results.inodes->inodes;
  }
  return summary;
}

std::vector<Verdict> Judge(const EngineSummary& summary) {
  std::vector<Verdict> verdicts;
  for (const auto& [backend, of] : summary.by_backend) {
    const std::string_view name = BackendName(backend);
    const auto create = [&, &ratios = of.create_vs_xfs](std::uint32_t threads, double times) {
      return AtLeast(fmt::format("durable creates against XFS, {}, {} callers", name, threads),
                     ratios.at(threads), times, "x");
    };
    verdicts.push_back(create(8, 3));
    verdicts.push_back(create(32, 5));
    verdicts.push_back(AtLeast(fmt::format("sequential read against the backend alone, {}", name),
                               Times(of.read_vs_backend, 100), 95, "%"));
    verdicts.push_back(AtLeast(fmt::format("sequential write against the backend alone, {}", name),
                               Times(of.write_vs_backend, 100), 95, "%"));
    verdicts.push_back(AtMost(fmt::format("overhead of the bridge, mixed, {}", name),
                              of.overhead_percent, 0.4, "%"));
  }
  verdicts.push_back(
      AtMost("cached lookup and attributes, p50", summary.cached_lookup_us, 2, " us"));
  verdicts.push_back(AtMost("readdir, cached, per entry", summary.readdir_ns_per_entry, 60, " ns"));
  verdicts.push_back(AtMost("p99 of creates during checkpoints against none",
                            summary.create_p99_during_checkpoint_ratio, 3, "x"));
  verdicts.push_back(
      AtMost("memory of a million inodes", summary.mb_per_million_inodes, 350, " MB"));
  verdicts.push_back(JudgeRecovery(summary));
  return verdicts;
}

}  // namespace filer::bench
