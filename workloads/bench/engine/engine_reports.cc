// engine_reports.cc: the results as a document for programs, text for a terminal and a page.
#include <fmt/format.h>

#include <algorithm>

#include "workloads/bench/engine/engine_results.h"
#include "workloads/bench/html_page.h"

namespace filer::bench {
namespace {

constexpr const char* kHow =
    "Creates: file, 4 KiB and name durable; XFS and ext4: write, fsync of the file, fsync of its "
    "directory. Overwrites: fdatasync. Large and random transfers of XFS and ext4 are O_DIRECT; "
    "our "
    "data cache holds 16 MiB: they come from the volume.";

Json OrNull(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json RunJson(const EngineRun& run) {
  Json json = {{"subject", run.subject},
               {"backend", BackendName(run.backend)},
               {"workload", FileWorkloadName(run.cell.workload)},
               {"block_bytes", PayloadBytes(run.cell.workload)},
               {"queue_depth", run.cell.threads},
               {"threads", run.cell.threads}};
  json.update(FiguresJson(run.samples));
  // Between the kernel's file systems and their loop device nobody counts.
  if (run.subject == kXfs || run.subject == kExt4) {
    json["kicks_per_io"] = json["interrupts_per_io"] = nullptr;
  }
  return json;
}

Json BackendJson(const BackendSummary& summary) {
  Json create_xfs = Json::object();
  Json create_ext4 = Json::object();
  for (const auto& [threads, ratio] : summary.create_vs_xfs) {
    create_xfs[std::to_string(threads)] = OrNull(ratio);
  }
  for (const auto& [threads, ratio] : summary.create_vs_ext4) {
    create_ext4[std::to_string(threads)] = OrNull(ratio);
  }
  return {
      {"vs_xfs", {{"durable_create", create_xfs}}},
      {"vs_ext4", {{"durable_create", create_ext4}}},
      {"sequential_vs_backend",
       {{"read", OrNull(summary.read_vs_backend)}, {"write", OrNull(summary.write_vs_backend)}}},
      {"bridge_overhead_percent", OrNull(summary.overhead_percent)}};
}

Json SummaryJson(const EngineSummary& summary) {
  const auto found = summary.by_backend.find(summary.backend);
  Json json = BackendJson(found == summary.by_backend.end() ? BackendSummary{} : found->second);
  Json by_backend = Json::object();
  for (const auto& [backend, of] : summary.by_backend) {
    by_backend[std::string(BackendName(backend))] = BackendJson(of);
  }
  json["backend"] = BackendName(summary.backend);
  json["by_backend"] = by_backend;
  json["cached_lookup_us"] = OrNull(summary.cached_lookup_us);
  json["readdir_ns_per_entry"] = OrNull(summary.readdir_ns_per_entry);
  json["create_p99_during_checkpoint_ratio"] = OrNull(summary.create_p99_during_checkpoint_ratio);
  json["mb_per_million_inodes"] = OrNull(summary.mb_per_million_inodes);
  json["recovery_s"] = OrNull(summary.recovery_s);
  json["recovery_inodes"] = summary.recovery_inodes;
  json["targets"] = VerdictsJson(Judge(summary));
  return json;
}

Json ProbesJson(const EngineResults& results) {
  Json probes = {{"checkpoints", nullptr}, {"inodes", nullptr}};
  if (const auto& probe = results.checkpoints) {
    probes["checkpoints"] = {{"p99_us", probe->p99_us},
                             {"p99_quiet_us", probe->p99_quiet_us},
                             {"count", probe->checkpoints},
                             {"quiet_count", probe->quiet_checkpoints}};
  }
  if (const auto& probe = results.inodes) {
    probes["inodes"] = {{"count", probe->inodes},
                        {"cached_count", probe->cached_inodes},
                        {"bytes_per_inode", probe->bytes_per_inode},
                        {"recovery_s", probe->recovery_s},
                        {"recovered_groups", probe->recovered_groups}};
  }
  return probes;
}

std::vector<std::string> SubjectsOf(const EngineResults& results, BackendKind backend) {
  std::vector<std::string> names;
  for (const std::string& name : FileSubjectNames()) {
    if (std::any_of(results.runs.begin(), results.runs.end(), [&](const EngineRun& run) {
          return run.backend == backend && run.subject == name;
        })) {
      names.push_back(name);
    }
  }
  return names;
}

std::vector<FileCell> CellsOf(const EngineResults& results, BackendKind backend) {
  std::vector<FileCell> cells;
  for (const FileCell& cell : FullFileCells()) {
    if (std::any_of(results.runs.begin(), results.runs.end(), [&](const EngineRun& run) {
          return run.backend == backend && run.cell == cell;
        })) {
      cells.push_back(cell);
    }
  }
  return cells;
}

constexpr std::size_t kColumns = 4;

std::vector<std::string> RowOf(const EngineResults& results, BackendKind backend,
                               const FileCell& cell, const std::vector<std::string>& subjects) {
  std::vector<std::string> row = {"  " + FileCellName(cell)};
  for (const std::string& subject : subjects) {
    const EngineRun* run = results.Find(subject, backend, cell);
    if (run == nullptr) {
      row.insert(row.end(), kColumns, "-");
      continue;
    }
    row.insert(row.end(), {HumanCount(run->Median(&Sample::iops)),
                           HumanMicroseconds(run->Median(&Sample::p50_us)),
                           HumanMicroseconds(run->Median(&Sample::p99_us)),
                           HumanMicroseconds(run->Median(&Sample::cpu_us_per_op))});
  }
  return row;
}

std::string BackendTable(const EngineResults& results, BackendKind backend) {
  const std::vector<std::string> subjects = SubjectsOf(results, backend);
  if (subjects.empty()) return "";
  TextRows rows = {{fmt::format("{}, {} MiB", BackendName(backend), results.volume_bytes >> 20)}};
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    rows[0].insert(rows[0].end(), {"ops/s", "p50", "p99", "cpu"});
  }
  for (const FileCell& cell : CellsOf(results, backend)) {
    rows.push_back(RowOf(results, backend, cell, subjects));
  }
  // Names above their columns.
  const std::vector<std::size_t> widths = WidthsOfText(rows);
  std::string names(widths[0], ' ');
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const auto* of = &widths[1 + kColumns * i];
    names += fmt::format("  {:>{}}", subjects[i], of[0] + of[1] + of[2] + of[3] + 6);
  }
  return names + "\n" + AlignText(rows) + "\n";
}

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "?";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string_view ColourOf(std::string_view subject) {
  if (subject == kNearmetalBridge) return "#c0392b";
  if (subject == kNearmetalDirect) return "#7f8c8d";
  if (subject == kXfs) return "#2980b9";
  return subject == kExt4 ? "#27ae60" : "#000000";
}

std::string PlotOf(const EngineResults& results, BackendKind backend, FileWorkload workload,
                   double Sample::*field, const char* what, const char* unit) {
  std::vector<Series> all;
  for (const std::string& subject : FileSubjectNames()) {
    Series one = {subject, std::string(ColourOf(subject)), {}};
    for (const std::uint32_t threads : {1U, 2U, 8U, 32U}) {
      const EngineRun* run = results.Find(subject, backend, {workload, threads});
      if (run != nullptr) one.points.emplace_back(threads, SpreadOf(run->samples, field));
    }
    if (!one.points.empty()) all.push_back(std::move(one));
  }
  const Plot plot(fmt::format("{}: {}, {}", BackendName(backend), FileWorkloadName(workload), what),
                  "callers", unit, std::move(all));
  return plot.is_empty() ? "" : plot.Svg();
}

std::string Plots(const EngineResults& results) {
  std::string html;
  for (const BackendKind backend : {BackendKind::kMemory, BackendKind::kFile}) {
    for (const FileCell& cell : FullFileCells()) {
      if (cell.threads != 1) continue;
      const std::string plots =
          PlotOf(results, backend, cell.workload, &Sample::iops, "operations per second", "ops/s") +
          PlotOf(results, backend, cell.workload, &Sample::p50_us, "median latency",
                 "microseconds");
      if (!plots.empty()) html += "<div>" + plots + "</div>\n";
    }
  }
  return html;
}

std::string RunsTable(const EngineResults& results) {
  std::string html =
      "<table><tr><th>backend</th><th>load</th><th>subject</th><th>ops/s (min to max)</th>"
      "<th>MB/s</th><th>p50 us</th><th>p99 us</th><th>p99.9 us</th><th>CPU us/op</th></tr>\n";
  for (const EngineRun& run : results.runs) {
    const Spread iops = SpreadOf(run.samples, &Sample::iops);
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} ({} to {})</td><td>{:.0f}</td><td>{}</td>"
        "<td>{}</td><td>{}</td><td>{}</td></tr>\n",
        BackendName(run.backend), FileCellName(run.cell), EscapeHtml(run.subject),
        HumanCount(iops.median), HumanCount(iops.min), HumanCount(iops.max),
        run.Median(&Sample::mb_per_s), HumanMicroseconds(run.Median(&Sample::p50_us)),
        HumanMicroseconds(run.Median(&Sample::p99_us)),
        HumanMicroseconds(run.Median(&Sample::p999_us)),
        HumanMicroseconds(run.Median(&Sample::cpu_us_per_op)));
  }
  return html + "</table>\n";
}

}  // namespace

Json ReportJson(const EngineResults& results) {
  Json runs = Json::array();
  for (const EngineRun& run : results.runs) runs.push_back(RunJson(run));
  Json skipped = Json::array();
  for (const Skipped& one : results.skipped) {
    skipped.push_back({{"subject", one.subject}, {"backend", one.backend}, {"reason", one.reason}});
  }
  return {{"schema", "filer.bench.engine/1"},
          {"machine", results.machine},
          {"quick", results.is_quick},
          {"cores", {{"load", results.cores.load}, {"server", results.cores.server}}},
          {"seconds_per_run", results.seconds_per_run},
          {"volume_bytes", results.volume_bytes},
          {"directory_entries", results.sizes.names},
          {"data_bytes", results.sizes.data_bytes},
          {"how", kHow},
          {"remarks", results.remarks},
          {"runs", runs},
          {"probes", ProbesJson(results)},
          {"skipped", skipped},
          {"summary", SummaryJson(Summarize(results))}};
}

std::string ReportTable(const EngineResults& results) {
  std::string text = fmt::format(
      "The file system beside XFS and ext4, measured on {} ({} processors, Linux {}).\n"
      "Callers of ours on core {}, the bridge on core {}; XFS and ext4 on both, on a loop device.\n"
      "Medians of {} repetitions of {:.2f} s, subjects interleaved. p50, p99: latency in us; cpu: "
      "us per operation, all parties.\n{}\n\n",
      TextOf(results.machine, "model"), TextOf(results.machine, "cpus"),
      TextOf(results.machine, "kernel"), results.cores.load, results.cores.server,
      results.repetitions, results.seconds_per_run, kHow);
  for (const BackendKind backend : {BackendKind::kMemory, BackendKind::kFile}) {
    text += BackendTable(results, backend);
  }
  text += VerdictsText(Judge(Summarize(results)));
  for (const std::string& remark : results.remarks) text += remark + "\n";
  for (const Skipped& one : results.skipped) {
    text += fmt::format("Not measured: {}, {}: {}\n", one.subject, one.backend, one.reason);
  }
  return text;
}

std::string ReportHtml(const EngineResults& results) {
  std::string html = HtmlHead("filer bench engine", "The file system beside XFS and ext4");
  html += fmt::format(
      "<p>{}. Callers of ours on core {}, the bridge on core {}; XFS and ext4 on both, on a loop "
      "device. Medians of {} repetitions of {:.2f} s, subjects interleaved; bars span all "
      "repetitions. {}</p>\n",
      EscapeHtml(results.machine.dump()), results.cores.load, results.cores.server,
      results.repetitions, results.seconds_per_run, kHow);
  html += VerdictsHtml(Judge(Summarize(results))) + Plots(results) + RunsTable(results);
  for (const Skipped& one : results.skipped) {
    html += fmt::format("<p>Not measured: {}, {}: {}</p>\n", EscapeHtml(one.subject),
                        EscapeHtml(one.backend), EscapeHtml(one.reason));
  }
  return html + "</body></html>\n";
}

}  // namespace filer::bench
