// table_report.cc: what a person reads on the terminal: per backend a row for every cell, beside
// each other the subjects; then what it comes to.
#include <fmt/format.h>

#include <algorithm>

#include "workloads/bench/results.h"

namespace filer::bench {
namespace {

using Rows = TextRows;

std::vector<std::string> SubjectsOf(const Results& results, BackendKind backend) {
  std::vector<std::string> names;
  for (const Run& run : results.runs) {
    if (run.backend != backend) continue;
    if (std::find(names.begin(), names.end(), run.subject) == names.end()) {
      names.push_back(run.subject);
    }
  }
  return names;
}

std::vector<Cell> CellsOf(const Results& results, BackendKind backend) {
  std::vector<Cell> cells;
  for (const Run& run : results.runs) {
    if (run.backend != backend) continue;
    if (std::find(cells.begin(), cells.end(), run.cell) == cells.end()) cells.push_back(run.cell);
  }
  return cells;
}

std::string VolumeName(const Results& results, BackendKind backend) {
  const auto found = results.volume_bytes.find(backend);
  const std::uint64_t bytes = found == results.volume_bytes.end() ? 0 : found->second;
  return fmt::format("{}, {} MiB", BackendName(backend), bytes >> 20);
}

std::string BackendTable(const Results& results, BackendKind backend) {
  const std::vector<Cell> cells = CellsOf(results, backend);
  if (cells.empty()) return "";
  const std::vector<std::string> subjects = SubjectsOf(results, backend);
  Rows rows = {{VolumeName(results, backend)}};
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    rows[0].insert(rows[0].end(), {"IOPS", "p50", "p99", "cpu"});
  }
  for (const Cell& cell : cells) {
    std::vector<std::string> row = {"  " + CellName(cell)};
    for (const std::string& subject : subjects) {
      const Run* run = results.Find(subject, backend, cell);
      if (run == nullptr) {
        row.insert(row.end(), {"-", "-", "-", "-"});
        continue;
      }
      row.insert(row.end(), {HumanCount(run->Of(&Sample::iops).median),
                             HumanMicroseconds(run->Of(&Sample::p50_us).median),
                             HumanMicroseconds(run->Of(&Sample::p99_us).median),
                             HumanMicroseconds(run->Of(&Sample::cpu_us_per_op).median)});
    }
    rows.push_back(std::move(row));
  }
  // Names above their four columns.
  const std::vector<std::size_t> widths = WidthsOfText(rows);
  std::string names(widths[0], ' ');
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const auto* of = &widths[1 + 4 * i];
    names += fmt::format("  {:>{}}", subjects[i], of[0] + of[1] + of[2] + of[3] + 6);
  }
  return names + "\n" + AlignText(rows) + "\n";
}

std::string IdleText(const Results& results, const Summary& summary) {
  if (!results.idle) return "";
  return fmt::format(
      "Idle for {:.0f} s: {:.2f}% of a core, both ends ({:.2f}% the target). First request "
      "afterwards: {:.0f} doorbell(s), {} us (of {}).\n\n",
      results.idle->seconds, results.idle->cpu_percent, results.idle->target_cpu_percent,
      summary.first_request_doorbells.value_or(0),
      HumanMicroseconds(summary.first_request_us.value_or(0)), results.idle->first_requests.size());
}

std::string LinuxDriverText(const Results& results) {
  if (results.linux_driver.empty()) return "";
  Rows rows = {{"Linux's virtio-blk driver in a guest (emulated: counted, not timed)", "I/Os",
                "doorbells/IO", "interrupts/IO"}};
  for (const FunctionalRow& row : results.linux_driver) {
    const auto ios = static_cast<double>(row.ios);
    rows.push_back({fmt::format("  {}, read 4K, depth {}", row.target, row.depth),
                    fmt::format("{}", row.ios),
                    fmt::format("{:.3f}", static_cast<double>(row.doorbells) / ios),
                    fmt::format("{:.3f}", static_cast<double>(row.interrupts) / ios)});
  }
  return AlignText(rows) + "\n";
}

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "?";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string Head(const Results& results, const Summary& summary) {
  const Spread ground = SpreadOf(results.ping_pong_ns);
  return fmt::format(
      "The bridge between two cores, measured on {} ({} processors, Linux {}).\n"
      "Load on core {}, target on core {}. Ground: a cache line takes {:.0f} ns to the other core "
      "and back ({:.0f} to {:.0f}): {}.\n"
      "Medians of {} repetitions of {:.2f} s, subjects interleaved. p50, p99: latency in us; cpu: "
      "us "
      "per I/O, both ends.\n\n",
      TextOf(results.machine, "model"), TextOf(results.machine, "cpus"),
      TextOf(results.machine, "kernel"), results.cores.load, results.cores.server, ground.median,
      ground.min, ground.max, summary.is_near ? "near" : "far", results.repetitions,
      results.seconds_per_run);
}

}  // namespace

std::string ReportTable(const Results& results) {
  const Summary summary = Summarize(results);
  std::string text = Head(results, summary);
  for (const BackendKind backend : {BackendKind::kNull, BackendKind::kMemory, BackendKind::kFile}) {
    text += BackendTable(results, backend);
  }
  text += LinuxDriverText(results) + IdleText(results, summary);
  text += VerdictsText(Judge(summary));
  for (const Skipped& one : results.skipped) {
    text += fmt::format("Not measured: {}, {}: {}\n", one.subject, one.backend, one.reason);
  }
  return text;
}

}  // namespace filer::bench
