#include "workloads/bench/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "workloads/bench/ping_pong.h"

namespace filer::bench {
namespace {

constexpr Cell kLatencyCell = {Workload::kRead, 4096, 1};
constexpr Cell kDeepCell = {Workload::kRead, 4096, 32};

// Differences of repetitions that were measured side by side.
std::vector<double> Differences(const Run& ours, const Run& theirs, double Sample::*field) {
  std::vector<double> differences;
  const std::size_t count = std::min(ours.samples.size(), theirs.samples.size());
  for (std::size_t i = 0; i < count; ++i) {
    differences.push_back(ours.samples[i].*field - theirs.samples[i].*field);
  }
  return differences;
}

std::vector<double> InTrips(std::vector<double> microseconds, const Run& ours) {
  for (std::size_t i = 0; i < microseconds.size(); ++i) {
    microseconds[i] = microseconds[i] * 1e3 / ours.samples[i].ping_pong_ns;
  }
  return microseconds;
}

void AddLatency(const Results& results, Summary& summary) {
  const Run* bridge = results.Find(kBridge, BackendKind::kMemory, kLatencyCell);
  const Run* direct = results.Find(kDirect, BackendKind::kMemory, kLatencyCell);
  if (bridge == nullptr || direct == nullptr) return;
  const auto p50 = Differences(*bridge, *direct, &Sample::p50_us);
  const auto p99 = Differences(*bridge, *direct, &Sample::p99_us);
  summary.added_us_p50 = SpreadOf(p50).median;
  summary.added_us_p99 = SpreadOf(p99).median;
  summary.added_trips_p50 = SpreadOf(InTrips(p50, *bridge)).median;
  summary.added_trips_p99 = SpreadOf(InTrips(p99, *bridge)).median;
}

void CompareWithStorageDaemon(const Results& results, Summary& summary) {
  const auto ratio = [&](const Cell& cell, double Sample::*field, bool is_inverse) {
    const Run* ours = results.Find(kBridge, BackendKind::kNull, cell);
    const Run* theirs = results.Find(kStorageDaemon, BackendKind::kNull, cell);
    if (ours == nullptr || theirs == nullptr) return std::optional<double>();
    const double a = ours->Of(field).median;
    const double b = theirs->Of(field).median;
    const double value = is_inverse ? b / std::max(a, 1e-9) : a / std::max(b, 1e-9);
    return std::optional<double>(value);
  };
  summary.storage_daemon_iops_ratio = ratio(kDeepCell, &Sample::iops, false);
  summary.storage_daemon_latency_ratio = ratio(kLatencyCell, &Sample::p50_us, true);
}

void CompareWithRteVhost(const Results& results, Summary& summary) {
  for (const Run& run : results.runs) {
    if (run.subject != kBridge) continue;
    const Run* peer = results.Find(kRteVhost, run.backend, run.cell);
    if (peer == nullptr) continue;
    const double ratio =
        run.Of(&Sample::iops).median / std::max(peer->Of(&Sample::iops).median, 1e-9);
    if (summary.rte_vhost_worst_ratio && *summary.rte_vhost_worst_ratio <= ratio) continue;
    summary.rte_vhost_worst_ratio = ratio;
    summary.rte_vhost_worst_cell =
        fmt::format("{}, {}", BackendName(run.backend), CellName(run.cell));
  }
}

std::optional<Ratio> RatioOf(const Results& results, std::string_view ours, std::string_view theirs,
                             BackendKind backend) {
  Ratio ratio;
  std::vector<double> all;
  for (const Run& run : results.runs) {
    if (run.subject != ours || run.backend != backend) continue;
    const Run* peer = results.Find(theirs, backend, run.cell);
    if (peer == nullptr) continue;
    const double one =
        run.Of(&Sample::iops).median / std::max(peer->Of(&Sample::iops).median, 1e-9);
    if (all.empty() || one < ratio.worst) {
      ratio.worst = one;
      ratio.worst_cell = CellName(run.cell);
    }
    all.push_back(one);
  }
  if (all.empty()) return std::nullopt;
  ratio.median = SpreadOf(std::move(all)).median;
  return ratio;
}

void AddIdle(const Idle& idle, Summary& summary) {
  summary.idle_cpu_percent = idle.cpu_percent;
  summary.idle_target_cpu_percent = idle.target_cpu_percent;
  std::vector<double> us;
  for (const Idle::FirstRequest& request : idle.first_requests) {
    us.push_back(request.us);
    const auto doorbells = static_cast<double>(request.doorbells);
    if (!summary.first_request_doorbells ||
        std::abs(doorbells - 1) > std::abs(*summary.first_request_doorbells - 1)) {
      summary.first_request_doorbells = doorbells;
    }
  }
  if (!us.empty()) summary.first_request_us = SpreadOf(std::move(us)).median;
}

void CountNotifications(const Results& results, Summary& summary) {
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  for (const Run& run : results.runs) {
    if (run.subject != kBridge) continue;
    for (const Sample& sample : run.samples) {
      summary.bridge_ios += sample.ios;
      kicks += sample.kicks;
      interrupts += sample.interrupts;
    }
  }
  if (summary.bridge_ios == 0) return;
  summary.kicks_per_io = static_cast<double>(kicks) / static_cast<double>(summary.bridge_ios);
  summary.interrupts_per_io =
      static_cast<double>(interrupts) / static_cast<double>(summary.bridge_ios);
}

// 0.000, that is.
Verdict Silent(std::string what, std::optional<double> per_io) {
  Verdict verdict{std::move(what), "0.000", "not measured", {}};
  if (!per_io) return verdict;
  verdict.measured = fmt::format("{:.6f}", *per_io);
  verdict.is_met = *per_io < 0.0005;
  return verdict;
}

// Of the target "against fio".
Verdict AgainstFio(const char* what, const std::optional<Ratio>& ratio, double Ratio::*field) {
  const bool names_cell = ratio && field == &Ratio::worst;
  return AtLeast(fmt::format("file backend against fio (io_uring), {}{}", what,
                             names_cell ? " (" + ratio->worst_cell + ")" : ""),
                 ratio ? std::optional<double>((*ratio).*field * 100) : std::nullopt, 95, "%");
}

Verdict ExactlyOne(std::string what, std::optional<double> value) {
  Verdict verdict{std::move(what), "1", "not measured", {}};
  if (!value) return verdict;
  verdict.measured = fmt::format("{:.0f}", *value);
  verdict.is_met = *value == 1;
  return verdict;
}

std::optional<double> InMillions(std::optional<double> count) {
  return count ? std::optional<double>(*count / 1e6) : count;
}

std::optional<double> InPercent(std::optional<double> ratio) {
  return ratio ? std::optional<double>(*ratio * 100) : ratio;
}

}  // namespace

Sample SampleOf(const Measured& measured, const Cell& cell, double ping_pong_ns) {
  const LoadResult& load = measured.load;
  const double ns_per_tick = TickClock::Get().ns_per_tick();
  const double ios = std::max(static_cast<double>(load.ios), 1.0);
  const auto quantile_us = [&](double quantile) {
    return load.latency_ticks.Quantile(quantile) * ns_per_tick / 1e3;
  };
  Sample sample;
  sample.ios = load.ios;
  sample.iops = static_cast<double>(load.ios) / std::max(load.seconds, 1e-9);
  sample.mb_per_s = sample.iops * cell.block_bytes / 1e6;
  sample.p50_us = quantile_us(0.5);
  sample.p99_us = quantile_us(0.99);
  sample.p999_us = quantile_us(0.999);
  const std::int64_t cpu_ns = load.end.load_cpu_ns - load.begin.load_cpu_ns +
                              load.end.server_cpu_ns - load.begin.server_cpu_ns;
  sample.cpu_us_per_op = static_cast<double>(cpu_ns) / 1e3 / ios;
  sample.kicks = load.end.kicks - load.begin.kicks;
  sample.interrupts = load.end.interrupts - load.begin.interrupts;
  sample.kicks_per_io = static_cast<double>(sample.kicks) / ios;
  sample.interrupts_per_io = static_cast<double>(sample.interrupts) / ios;
  sample.copied_bytes_per_io = measured.copied_bytes_per_io;
  sample.ping_pong_ns = ping_pong_ns;
  return sample;
}

Spread SpreadOf(const std::vector<Sample>& samples, double Sample::*field) {
  std::vector<double> values;
  for (const Sample& sample : samples) values.push_back(sample.*field);
  return SpreadOf(std::move(values));
}

const Run* Results::Find(std::string_view subject, BackendKind backend, const Cell& cell) const {
  for (const Run& run : runs) {
    if (run.subject == subject && run.backend == backend && run.cell == cell) return &run;
  }
  return nullptr;
}

Summary Summarize(const Results& results) {
  Summary summary;
  summary.ping_pong_ns = SpreadOf(results.ping_pong_ns).median;
  summary.is_near = summary.ping_pong_ns <= kNearNsMax;
  AddLatency(results, summary);
  for (const BackendKind backend : {BackendKind::kNull, BackendKind::kMemory, BackendKind::kFile}) {
    const Run* run = results.Find(kBridge, backend, kDeepCell);
    summary.iops_per_poller[backend] =
        run != nullptr ? std::optional<double>(run->Of(&Sample::iops).median) : std::nullopt;
  }
  CompareWithStorageDaemon(results, summary);
  CompareWithRteVhost(results, summary);
  CountNotifications(results, summary);
  const Run* direct_file = results.Find(kDirect, BackendKind::kFile, kDeepCell);
  if (const auto ours = summary.iops_per_poller[BackendKind::kFile]; ours && direct_file) {
    summary.file_vs_direct = *ours / std::max(direct_file->Of(&Sample::iops).median, 1e-9);
  }
  summary.split_to_packed = RatioOf(results, kBridge, kBridgePacked, BackendKind::kNull);
  summary.file_to_fio = RatioOf(results, kBridge, kFio, BackendKind::kFile);
  summary.direct_to_fio = RatioOf(results, kDirect, kFio, BackendKind::kFile);
  if (results.idle) AddIdle(*results.idle, summary);
  return summary;
}

std::vector<Verdict> Judge(const Summary& summary) {
  const auto iops = [&](BackendKind backend) {
    const auto found = summary.iops_per_poller.find(backend);
    return found == summary.iops_per_poller.end() ? std::nullopt : InMillions(found->second);
  };
  const auto added = [](const char* what) {
    return fmt::format("added latency, memory, read 4K, depth 1, {}", what);
  };
  return {
      AtMost(added("p50"), summary.added_trips_p50, 2.2, " round trips"),
      AtMost(added("p50"), summary.added_us_p50, 1.2, " us"),
      AtMost(added("p99"), summary.added_trips_p99, 4, " round trips"),
      AtLeast("IOPS per poller, null, read 4K, depth 32", iops(BackendKind::kNull), 12, "M"),
      AtLeast("IOPS per poller, memory, read 4K, depth 32", iops(BackendKind::kMemory), 4, "M"),
      AtLeast("file backend, read 4K, depth 32, against the backend alone",
              InPercent(summary.file_vs_direct), 95, "%"),
      AtLeast(fmt::format("IOPS against qemu-storage-daemon, null, depth 32 ({})",
                          summary.is_near ? "near" : "far"),
              summary.storage_daemon_iops_ratio, summary.is_near ? 8 : 3, "x"),
      AtLeast(
          summary.rte_vhost_worst_cell.empty()
              ? "IOPS against rte-vhost, worst row"
              : fmt::format("IOPS against rte-vhost, worst row ({})", summary.rte_vhost_worst_cell),
          summary.rte_vhost_worst_ratio, 1, "x"),
      Silent(fmt::format("doorbells per I/O, {} I/Os",
                         HumanCount(static_cast<double>(summary.bridge_ios))),
             summary.kicks_per_io),
      Silent("interrupts per I/O", summary.interrupts_per_io),
      AgainstFio("median of all rows", summary.file_to_fio, &Ratio::median),
      AgainstFio("worst row", summary.file_to_fio, &Ratio::worst),
      AtMost("idle: processor time of the target", summary.idle_target_cpu_percent, 2, "%"),
      ExactlyOne("idle: doorbells of the first request", summary.first_request_doorbells),
  };
}

std::string CellName(const Cell& cell) {
  return fmt::format("{} {}K, depth {}", WorkloadName(cell.workload), cell.block_bytes / 1024,
                     cell.depth);
}

}  // namespace filer::bench
