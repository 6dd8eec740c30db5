#include "workloads/bench/engine/engine_results.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace filer::bench {
namespace {

EngineRun RunWith(std::string_view subject, BackendKind backend, FileCell cell, double iops,
                  double p50_us = 1) {
  EngineRun run = {std::string(subject), backend, cell, {}};
  for (const double factor : {0.5, 1.0, 2.0}) {
    Sample sample;
    sample.iops = sample.mb_per_s = iops * factor;
    sample.p50_us = p50_us;
    sample.ios = 10;
    run.samples.push_back(sample);
  }
  return run;
}

EngineResults SomeResults() {
  EngineResults results;
  results.machine = {{"cpus", 2}, {"model", "test"}, {"kernel", "6"}};
  results.sizes.names = 1000;
  const auto backend = BackendKind::kMemory;
  const FileCell create8 = {FileWorkload::kCreate, 8};
  const FileCell create32 = {FileWorkload::kCreate, 32};
  results.runs = {
      RunWith(kNearmetalBridge, backend, create8, 400),
      RunWith(kXfs, backend, create8, 100),
      RunWith(kNearmetalBridge, backend, create32, 400),
      RunWith(kXfs, backend, create32, 100),
      RunWith(kNearmetalBridge, backend, {FileWorkload::kStat, 1}, 1, 1.5),
      RunWith(kNearmetalBridge, backend, {FileWorkload::kReaddir, 1}, 1, 70),
      RunWith(kNearmetalBridge, backend, {FileWorkload::kReadSequential, 8}, 90),
      RunWith(kBackendAlone, backend, {FileWorkload::kReadSequential, 8}, 100),
      RunWith(kNearmetalDirect, backend, {FileWorkload::kMixed, 8}, 1010),
      RunWith(kNearmetalBridge, backend, {FileWorkload::kMixed, 8}, 1000),
  };
  return results;
}

std::optional<bool> MetOf(const EngineSummary& summary, const std::string& part) {
  for (const Verdict& verdict : Judge(summary)) {
    if (verdict.what.find(part) != std::string::npos) return verdict.is_met;
  }
  ADD_FAILURE() << "no target with " << part;
  return std::nullopt;
}

TEST(SummarizeEngine, ComparesWhatWasMeasuredSideBySide) {
  const EngineSummary summary = Summarize(SomeResults());
  EXPECT_EQ(summary.backend, BackendKind::kMemory);  // no file in this run
  const BackendSummary& memory = summary.by_backend.at(BackendKind::kMemory);
  EXPECT_DOUBLE_EQ(memory.create_vs_xfs.at(8).value(), 4);
  EXPECT_FALSE(memory.create_vs_ext4.at(8).has_value());
  EXPECT_DOUBLE_EQ(memory.read_vs_backend.value(), 0.9);
  EXPECT_FALSE(memory.write_vs_backend.has_value());
  EXPECT_NEAR(memory.overhead_percent.value(), 1, 1e-9);
  EXPECT_DOUBLE_EQ(summary.cached_lookup_us.value(), 1.5);
  EXPECT_DOUBLE_EQ(summary.readdir_ns_per_entry.value(), 70);
}

TEST(JudgeEngine, HoldsFiguresToTheirTargets) {
  const EngineSummary summary = Summarize(SomeResults());
  EXPECT_EQ(MetOf(summary, "8 callers"), true);    // 4 of 3
  EXPECT_EQ(MetOf(summary, "32 callers"), false);  // 4 of 5
  EXPECT_EQ(MetOf(summary, "lookup"), true);
  EXPECT_EQ(MetOf(summary, "readdir"), false);
  EXPECT_EQ(MetOf(summary, "sequential read"), false);
  EXPECT_EQ(MetOf(summary, "sequential write"), std::nullopt);
  EXPECT_EQ(MetOf(summary, "overhead"), false);
}

TEST(JudgeEngine, FewerFilesCanMissTheRecoveryTargetAndNotMeetIt) {
  EngineResults results = SomeResults();
  results.inodes = InodeProbe{.inodes = 100'000, .bytes_per_inode = 300, .recovery_s = 1};
  EXPECT_EQ(MetOf(Summarize(results), "recovery"), std::nullopt);
  EXPECT_EQ(MetOf(Summarize(results), "memory of a million"), true);
  results.inodes->recovery_s = 2.5;
  EXPECT_EQ(MetOf(Summarize(results), "recovery"), false);
  results.inodes->inodes = 10'000'000;
  results.inodes->recovery_s = 1;
  EXPECT_EQ(MetOf(Summarize(results), "recovery"), true);
}

TEST(JudgeEngine, CheckpointsThatDidNotHappenAreNotMeasured) {
  EngineResults results = SomeResults();
  results.checkpoints = CheckpointProbe{.p99_us = 200, .p99_quiet_us = 100, .checkpoints = 0};
  EXPECT_EQ(MetOf(Summarize(results), "checkpoints"), std::nullopt);
  results.checkpoints->checkpoints = 1;
  EXPECT_EQ(MetOf(Summarize(results), "checkpoints"), true);
  results.checkpoints->p99_us = 301;
  EXPECT_EQ(MetOf(Summarize(results), "checkpoints"), false);
}

TEST(ReportEngine, DocumentHasTheKeysOfTheContract) {
  EngineResults results = SomeResults();
  results.skipped = {{"ext4", "memory", "mkfs.ext4: <not> installed"}};
  const Json json = ReportJson(results);
  EXPECT_EQ(json.at("schema"), "filer.bench.engine/1");
  const Json& run = json.at("runs").at(0);
  EXPECT_EQ(run.at("subject"), "nearmetal-bridge");
  EXPECT_EQ(run.at("workload"), "create");
  EXPECT_EQ(run.at("queue_depth"), 8);
  EXPECT_DOUBLE_EQ(run.at("iops").get<double>(), 400);
  EXPECT_DOUBLE_EQ(run.at("spread").at("iops").at("max").get<double>(), 800);
  EXPECT_TRUE(json.at("runs").at(1).at("kicks_per_io").is_null());  // nobody counts them there
  const Json& summary = json.at("summary");
  EXPECT_DOUBLE_EQ(summary.at("vs_xfs").at("durable_create").at("32").get<double>(), 4);
  EXPECT_TRUE(summary.at("sequential_vs_backend").at("write").is_null());
  for (const char* key :
       {"create_p99_during_checkpoint_ratio", "mb_per_million_inodes", "recovery_s"}) {
    EXPECT_TRUE(summary.at(key).is_null()) << key;
  }
  EXPECT_NE(ReportHtml(results).find("&lt;not&gt;"), std::string::npos);
  EXPECT_NE(ReportTable(results).find("MISSED"), std::string::npos);
}

TEST(ReportEngine, EmptyResultsAreNoFailure) {
  const EngineResults nothing;
  EXPECT_TRUE(
      ReportJson(nothing).at("summary").at("vs_xfs").at("durable_create").at("8").is_null());
  EXPECT_FALSE(ReportTable(nothing).empty());
  EXPECT_FALSE(ReportHtml(nothing).empty());
}

}  // namespace
}  // namespace filer::bench
