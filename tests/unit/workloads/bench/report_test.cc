#include <gtest/gtest.h>

#include "workloads/bench/results.h"

namespace filer::bench {
namespace {

constexpr Cell kShallow = {Workload::kRead, 4096, 1};
constexpr Cell kDeep = {Workload::kRead, 4096, 32};

Sample MakeSample(double iops, double p50_us, double ping_pong_ns) {
  Sample sample;
  sample.iops = iops;
  sample.mb_per_s = iops * 4096 / 1e6;
  sample.p50_us = p50_us;
  sample.p99_us = p50_us * 2;
  sample.p999_us = p50_us * 4;
  sample.cpu_us_per_op = 2e6 / iops;
  sample.ping_pong_ns = ping_pong_ns;
  sample.ios = 1'000'000;
  sample.copied_bytes_per_io = 0;
  return sample;
}

void Add(Results& results, std::string_view subject, BackendKind backend, const Cell& cell,
         std::vector<Sample> samples) {
  results.runs.push_back({std::string(subject), backend, cell, std::move(samples)});
}

Results MakeResults() {
  Results results;
  results.machine = {
      {"cpus", 2}, {"model", "A <fast> CPU"}, {"kernel", "6"}, {"kvm_module", "kvm_intel"}};
  results.cores = {0, 1};
  results.repetitions = 3;
  results.seconds_per_run = 0.1;
  results.ping_pong_ns = {100, 120, 110};
  // The direct arm is slow where the bridge is: what is added is the difference of each pair.
  Add(results, kBridge, BackendKind::kMemory, kShallow,
      {MakeSample(1e6, 0.40, 100), MakeSample(1e6, 0.90, 200), MakeSample(1e6, 0.35, 100)});
  Add(results, kDirect, BackendKind::kMemory, kShallow,
      {MakeSample(9e6, 0.10, 100), MakeSample(9e6, 0.50, 200), MakeSample(9e6, 0.10, 100)});
  Add(results, kBridge, BackendKind::kNull, kShallow, {MakeSample(2e6, 0.3, 100)});
  Add(results, kBridge, BackendKind::kNull, kDeep, {MakeSample(20e6, 1.5, 100)});
  Add(results, kStorageDaemon, BackendKind::kNull, kShallow, {MakeSample(5e5, 1.5, 100)});
  Add(results, kStorageDaemon, BackendKind::kNull, kDeep, {MakeSample(4e6, 8, 100)});
  Add(results, kRteVhost, BackendKind::kNull, kDeep, {MakeSample(40e6, 0.8, 100)});
  Add(results, kRteVhost, BackendKind::kNull, kShallow, {MakeSample(1e6, 0.8, 100)});
  return results;
}

TEST(Summarize, AddedLatencyIsTheMedianOfPairs) {
  const Summary summary = Summarize(MakeResults());
  EXPECT_NEAR(*summary.added_us_p50, 0.30, 1e-9);  // of 0.30, 0.40, 0.25
  EXPECT_NEAR(*summary.added_us_p99, 0.60, 1e-9);
  EXPECT_NEAR(*summary.added_trips_p50, 2.5, 1e-9);  // of 3, 2, 2.5
  EXPECT_EQ(summary.ping_pong_ns, 110);
  EXPECT_TRUE(summary.is_near);
}

TEST(Summarize, ComparesWithThePeers) {
  const Summary summary = Summarize(MakeResults());
  EXPECT_EQ(summary.iops_per_poller.at(BackendKind::kNull), 20e6);
  EXPECT_FALSE(summary.iops_per_poller.at(BackendKind::kFile).has_value());
  EXPECT_NEAR(*summary.storage_daemon_iops_ratio, 5, 1e-9);
  EXPECT_NEAR(*summary.storage_daemon_latency_ratio, 5, 1e-9);
  EXPECT_NEAR(*summary.rte_vhost_worst_ratio, 0.5, 1e-9);
  EXPECT_EQ(summary.rte_vhost_worst_cell, "null, read 4K, depth 32");
}

TEST(Summarize, ComparesTheFileBackendWithFioRowByRow) {
  Results results;
  const Cell middle = {Workload::kWrite, 4096, 8};
  Add(results, kFio, BackendKind::kFile, kShallow, {MakeSample(10e3, 50, 100)});
  Add(results, kFio, BackendKind::kFile, middle, {MakeSample(20e3, 50, 100)});
  Add(results, kFio, BackendKind::kFile, kDeep, {MakeSample(50e3, 50, 100)});
  EXPECT_FALSE(Summarize(results).file_to_fio.has_value());
  Add(results, kBridge, BackendKind::kFile, kShallow, {MakeSample(9e3, 50, 100)});
  Add(results, kBridge, BackendKind::kFile, middle, {MakeSample(12e3, 50, 100)});
  Add(results, kBridge, BackendKind::kFile, kDeep, {MakeSample(50e3, 50, 100)});
  const Summary summary = Summarize(results);
  EXPECT_NEAR(summary.file_to_fio->worst, 0.6, 1e-9);
  EXPECT_NEAR(summary.file_to_fio->median, 0.9, 1e-9);
  EXPECT_EQ(summary.file_to_fio->worst_cell, "write 4K, depth 8");
  EXPECT_FALSE(summary.direct_to_fio.has_value());
  const Json json = ReportJson(results).at("summary");
  EXPECT_NEAR(json.at("file_to_fio").at("worst").get<double>(), 0.6, 1e-9);
  EXPECT_TRUE(json.at("direct_to_fio").at("worst").is_null());
}

TEST(Summarize, OneFirstRequestWithoutDoorbellShows) {
  Results results;
  results.idle = Idle{2, 0.5, 0.25, {{1, 20}, {0, 5}, {1, 30}}};
  const Summary summary = Summarize(results);
  EXPECT_EQ(*summary.idle_cpu_percent, 0.5);
  EXPECT_EQ(*summary.first_request_doorbells, 0);
  EXPECT_EQ(*summary.first_request_us, 20);
  results.idle->first_requests[1].doorbells = 1;
  EXPECT_EQ(*Summarize(results).first_request_doorbells, 1);
  EXPECT_NE(ReportTable(results).find("1 doorbell(s), 20.0 us"), std::string::npos);
  EXPECT_EQ(ReportJson(results).at("idle").at("first_requests").size(), 3U);
}

TEST(Summarize, CountsDoorbellsOfTheBridgeOnly) {
  Results results = MakeResults();
  results.runs[2].samples[0].kicks = 300;
  results.runs[4].samples[0].kicks = 1'000'000;  // the storage daemon's
  const Summary summary = Summarize(results);
  EXPECT_EQ(summary.bridge_ios, 5'000'000U);
  EXPECT_NEAR(*summary.kicks_per_io, 300 / 5e6, 1e-12);
  EXPECT_EQ(*summary.interrupts_per_io, 0);
}

TEST(Summarize, WithoutRunsNothingIsClaimed) {
  const Summary summary = Summarize(Results{});
  EXPECT_FALSE(summary.added_us_p50.has_value());
  EXPECT_FALSE(summary.kicks_per_io.has_value());
  for (const Verdict& verdict : Judge(summary)) {
    EXPECT_FALSE(verdict.is_met.has_value()) << verdict.what;
    EXPECT_EQ(verdict.measured, "not measured");
  }
}

TEST(Judge, MissesAreMisses) {
  const auto verdicts = Judge(Summarize(MakeResults()));
  EXPECT_FALSE(*verdicts[0].is_met);  // 2.5 round trips of 2.2
  EXPECT_TRUE(*verdicts[1].is_met);   // 0.3 us of 1.2
  EXPECT_TRUE(*verdicts[3].is_met);   // 20M of 12M
  EXPECT_FALSE(*verdicts[6].is_met);  // 5x of 8x, near
  EXPECT_FALSE(*verdicts[7].is_met);  // half of rte-vhost
}

TEST(ReportJson, HasEveryKeyOfTheContract) {
  const Json report = ReportJson(MakeResults());
  EXPECT_EQ(report.at("schema"), "filer.bench.bridge/1");
  for (const char* key : {"cpus", "model", "kernel", "kvm_module"}) {
    EXPECT_TRUE(report.at("machine").contains(key)) << key;
  }
  ASSERT_EQ(report.at("runs").size(), 9U);  // ping-pong first
  EXPECT_EQ(report.at("runs")[0].at("subject"), "ping-pong");
  for (const Json& run : report.at("runs")) {
    for (const char* key : {"subject", "backend", "workload"}) EXPECT_TRUE(run.at(key).is_string());
    for (const char* key : {"block_bytes", "queue_depth", "iops", "mb_per_s", "cpu_us_per_op",
                            "kicks_per_io", "interrupts_per_io", "copied_bytes_per_io"}) {
      EXPECT_TRUE(run.at(key).is_number()) << key;
    }
    for (const char* key : {"p50", "p99", "p999"}) {
      EXPECT_TRUE(run.at("latency_us").at(key).is_number()) << key;
    }
  }
  const Json& summary = report.at("summary");
  EXPECT_EQ(summary.at("ping_pong_ns"), 110);
  for (const char* key : {"added_latency_us", "added_latency_round_trips"}) {
    EXPECT_TRUE(summary.at(key).at("p50").is_number());
    EXPECT_TRUE(summary.at(key).at("p99").is_number());
  }
  EXPECT_TRUE(summary.at("iops_per_poller").at("null").is_number());
  EXPECT_TRUE(summary.at("iops_per_poller").at("memory").is_null());  // not in these runs
  EXPECT_TRUE(summary.at("iops_per_poller").contains("file"));
  EXPECT_TRUE(summary.at("ratio_to_qemu_storage_daemon").at("iops").is_number());
  EXPECT_TRUE(summary.at("ratio_to_qemu_storage_daemon").at("latency").is_number());
  EXPECT_TRUE(summary.at("kicks_per_io").is_number());
  EXPECT_TRUE(summary.at("interrupts_per_io").is_number());
}

TEST(ReportJson, RunsHaveMedianMinAndMax) {
  Results results = MakeResults();
  results.runs[0].samples[1].iops = 3e6;
  const Json run = ReportJson(results).at("runs")[1];
  EXPECT_EQ(run.at("iops"), 1e6);
  EXPECT_EQ(run.at("spread").at("iops").at("max"), 3e6);
  EXPECT_EQ(run.at("repetitions"), 3);
}

TEST(ReportTable, SaysGroundSubjectsAndVerdicts) {
  Results results = MakeResults();
  results.skipped.push_back({"rte-vhost", "file", "no such program"});
  const std::string text = ReportTable(results);
  for (const char* part : {"110 ns", "near", "qemu-storage-daemon", "read 4K, depth 32", "20.00M",
                           "MISSED", "met", "Not measured: rte-vhost, file: no such program"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Reports, CountTheLinuxDriverAndNeverTimeIt) {
  Results results = MakeResults();
  EXPECT_EQ(ReportTable(results).find("emulated"), std::string::npos);
  results.linux_driver = {{"bridge", 8, 800, 200, 400}};
  const std::string text = ReportTable(results);
  for (const char* part : {"not timed", "bridge, read 4K, depth 8", "0.250", "0.500"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_NE(ReportHtml(results).find("<td>800</td><td>0.250</td>"), std::string::npos);
  const Json row = ReportJson(results).at("functional").at(0);
  EXPECT_EQ(row.at("subject"), "linux-driver");
  EXPECT_EQ(row.at("kicks_per_io"), 0.25);
  EXPECT_EQ(row.at("interrupts_per_io"), 0.5);
  for (const char* speed : {"iops", "mb_per_s", "latency_us"}) EXPECT_FALSE(row.contains(speed));
}

TEST(ReportHtml, IsOnePageWithoutTheNetwork) {
  const std::string html = ReportHtml(MakeResults());
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_NE(html.find("</html>"), std::string::npos);
  EXPECT_NE(html.find("A &lt;fast&gt; CPU"), std::string::npos);
  for (const char* part : {"http", "<script", "src=", "nan", "inf"}) {
    EXPECT_EQ(html.find(part), std::string::npos) << part;
  }
}

TEST(HumanCount, KeepsThreeDigits) {
  EXPECT_EQ(HumanCount(42), "42");
  EXPECT_EQ(HumanCount(999.9), "1.0K");
  EXPECT_EQ(HumanCount(123456), "123K");
  EXPECT_EQ(HumanCount(12345678), "12.35M");
  EXPECT_EQ(HumanCount(123456789), "123M");
}

}  // namespace
}  // namespace filer::bench
