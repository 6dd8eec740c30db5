// json_report.cc: the document that other programs read. Figures are medians of the repetitions;
// `spread` has the smallest and the largest.
#include "workloads/bench/results.h"
#include "workloads/bench/ticks.h"

namespace filer::bench {
namespace {

Json OrNull(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json MinMax(const std::vector<Sample>& samples, double Sample::*field) {
  const Spread spread = SpreadOf(samples, field);
  return {{"min", spread.min}, {"max", spread.max}};
}

Json CopiedJson(const std::vector<Sample>& samples) {
  std::vector<double> values;
  for (const Sample& sample : samples) {
    if (sample.copied_bytes_per_io) values.push_back(*sample.copied_bytes_per_io);
  }
  return values.empty() ? Json() : Json(SpreadOf(std::move(values)).median);
}

Json RunJson(const Run& run) {
  Json json = {{"subject", run.subject},
               {"backend", BackendName(run.backend)},
               {"workload", WorkloadName(run.cell.workload)},
               {"block_bytes", run.cell.block_bytes},
               {"queue_depth", run.cell.depth}};
  json.update(FiguresJson(run.samples));
  return json;
}

Json RatioJson(const std::optional<Ratio>& ratio) {
  if (!ratio) return {{"worst", nullptr}, {"median", nullptr}, {"worst_cell", nullptr}};
  return {{"worst", ratio->worst}, {"median", ratio->median}, {"worst_cell", ratio->worst_cell}};
}

Json IdleJson(const Idle& idle) {
  Json requests = Json::array();
  for (const Idle::FirstRequest& one : idle.first_requests) {
    requests.push_back({{"doorbells", one.doorbells}, {"us", one.us}});
  }
  return {{"seconds", idle.seconds},
          {"cpu_percent", idle.cpu_percent},
          {"target_cpu_percent", idle.target_cpu_percent},
          {"first_requests", requests}};
}

double PerIo(std::uint64_t count, const FunctionalRow& row) {
  return static_cast<double>(count) / static_cast<double>(row.ios);
}

Json LinuxDriverJson(const Results& results) {
  Json rows = Json::array();
  for (const FunctionalRow& row : results.linux_driver) {
    rows.push_back({{"subject", kLinuxDriver},
                    {"target", row.target},
                    {"accel", "tcg"},
                    {"queue_depth", row.depth},
                    {"ios", row.ios},
                    {"kicks_per_io", PerIo(row.doorbells, row)},
                    {"interrupts_per_io", PerIo(row.interrupts, row)}});
  }
  return rows;
}

// The ground in the form of a run, so that whoever reads runs[] finds it there.
Json PingPongJson(const Results& results) {
  const Spread spread = SpreadOf(results.ping_pong_ns);
  const auto quantile_us = [&](double quantile) {
    return TickClock::Get().ToNs(results.ping_pong_ticks.Quantile(quantile)) / 1e3;
  };
  const double per_second = spread.median > 0 ? 1e9 / spread.median : 0;
  return {{"subject", "ping-pong"},
          {"backend", "none"},
          {"workload", "round_trip"},
          {"block_bytes", 64},
          {"queue_depth", 1},
          {"repetitions", results.ping_pong_ns.size()},
          {"ios", results.ping_pong_ticks.Count()},
          {"iops", per_second},
          {"mb_per_s", per_second * 64 / 1e6},
          {"latency_us",
           {{"p50", quantile_us(0.5)}, {"p99", quantile_us(0.99)}, {"p999", quantile_us(0.999)}}},
          {"cpu_us_per_op", 2 * spread.median / 1e3},  // two cores spin
          {"kicks_per_io", 0.0},
          {"interrupts_per_io", 0.0},
          {"copied_bytes_per_io", 0.0},
          {"spread", {{"median_ns", {{"min", spread.min}, {"max", spread.max}}}}}};
}

Json SummaryJson(const Results& results) {
  const Summary summary = Summarize(results);
  const auto iops = [&](BackendKind backend) {
    const auto found = summary.iops_per_poller.find(backend);
    return found == summary.iops_per_poller.end() ? Json() : OrNull(found->second);
  };
  return {{"ping_pong_ns", summary.ping_pong_ns},
          {"placement", summary.is_near ? "near" : "far"},
          {"added_latency_us",
           {{"p50", OrNull(summary.added_us_p50)}, {"p99", OrNull(summary.added_us_p99)}}},
          {"added_latency_round_trips",
           {{"p50", OrNull(summary.added_trips_p50)}, {"p99", OrNull(summary.added_trips_p99)}}},
          {"iops_per_poller",
           {{"null", iops(BackendKind::kNull)},
            {"memory", iops(BackendKind::kMemory)},
            {"file", iops(BackendKind::kFile)}}},
          {"ratio_to_qemu_storage_daemon",
           {{"iops", OrNull(summary.storage_daemon_iops_ratio)},
            {"latency", OrNull(summary.storage_daemon_latency_ratio)}}},
          {"ratio_to_rte_vhost_worst", OrNull(summary.rte_vhost_worst_ratio)},
          {"file_vs_direct", OrNull(summary.file_vs_direct)},
          {"split_to_packed", RatioJson(summary.split_to_packed)},
          {"file_to_fio", RatioJson(summary.file_to_fio)},
          {"direct_to_fio", RatioJson(summary.direct_to_fio)},
          {"idle_cpu_percent", OrNull(summary.idle_cpu_percent)},
          {"idle_target_cpu_percent", OrNull(summary.idle_target_cpu_percent)},
          {"first_request_doorbells", OrNull(summary.first_request_doorbells)},
          {"first_request_us", OrNull(summary.first_request_us)},
          {"kicks_per_io", OrNull(summary.kicks_per_io)},
          {"interrupts_per_io", OrNull(summary.interrupts_per_io)},
          {"bridge_ios", summary.bridge_ios},
          {"targets", VerdictsJson(Judge(summary))}};
}

}  // namespace

Json FiguresJson(const std::vector<Sample>& samples) {
  std::uint64_t ios = 0;
  for (const Sample& sample : samples) ios += sample.ios;
  const auto median = [&](double Sample::*field) { return SpreadOf(samples, field).median; };
  return {{"repetitions", samples.size()},
          {"ios", ios},
          {"iops", median(&Sample::iops)},
          {"mb_per_s", median(&Sample::mb_per_s)},
          {"latency_us",
           {{"p50", median(&Sample::p50_us)},
            {"p99", median(&Sample::p99_us)},
            {"p999", median(&Sample::p999_us)}}},
          {"cpu_us_per_op", median(&Sample::cpu_us_per_op)},
          {"kicks_per_io", median(&Sample::kicks_per_io)},
          {"interrupts_per_io", median(&Sample::interrupts_per_io)},
          {"copied_bytes_per_io", CopiedJson(samples)},
          {"spread",
           {{"iops", MinMax(samples, &Sample::iops)},
            {"p50_us", MinMax(samples, &Sample::p50_us)},
            {"p99_us", MinMax(samples, &Sample::p99_us)},
            {"p999_us", MinMax(samples, &Sample::p999_us)},
            {"cpu_us_per_op", MinMax(samples, &Sample::cpu_us_per_op)}}}};
}

Json ReportJson(const Results& results) {
  Json runs = Json::array({PingPongJson(results)});
  for (const Run& run : results.runs) runs.push_back(RunJson(run));
  Json volumes = Json::object();
  for (const auto& [backend, bytes] : results.volume_bytes) {
    volumes[std::string(BackendName(backend))] = bytes;
  }
  Json skipped = Json::array();
  for (const Skipped& one : results.skipped) {
    skipped.push_back({{"subject", one.subject}, {"backend", one.backend}, {"reason", one.reason}});
  }
  return {{"schema", "filer.bench.bridge/1"},
          {"machine", results.machine},
          {"quick", results.is_quick},
          {"cores", {{"load", results.cores.load}, {"server", results.cores.server}}},
          {"seconds_per_run", results.seconds_per_run},
          {"volume_bytes", volumes},
          {"runs", runs},
          {"skipped", skipped},
          {"functional", LinuxDriverJson(results)},
          {"idle", results.idle ? IdleJson(*results.idle) : Json()},
          {"summary", SummaryJson(results)}};
}

}  // namespace filer::bench
