// html_report.cc: one page without scripts and without anything from the network: plots as inline
// SVG, the targets, and every figure in a table.
#include <fmt/format.h>

#include <algorithm>

#include "workloads/bench/html_page.h"
#include "workloads/bench/results.h"

namespace filer::bench {
namespace {

std::string ColourOf(std::string_view subject) {
  const SubjectKind* kind = FindSubjectKind(subject);
  return kind == nullptr ? "#000000" : std::string(kind->colour);
}

std::vector<Series> Collect(const Results& results, BackendKind backend, Workload workload,
                            std::uint32_t block_bytes, double Sample::*field) {
  std::vector<Series> all;
  for (const Run& run : results.runs) {
    if (run.backend != backend || run.cell.workload != workload ||
        run.cell.block_bytes != block_bytes) {
      continue;
    }
    auto found = std::find_if(all.begin(), all.end(),
                              [&](const Series& one) { return one.name == run.subject; });
    if (found == all.end()) found = all.insert(all.end(), {run.subject, ColourOf(run.subject), {}});
    found->points.emplace_back(run.cell.depth, run.Of(field));
  }
  for (Series& one : all) {
    std::sort(one.points.begin(), one.points.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  return all;
}

std::string Plots(const Results& results) {
  std::string html;
  for (const BackendKind backend : {BackendKind::kNull, BackendKind::kMemory, BackendKind::kFile}) {
    for (const std::uint32_t block_bytes : {4096U, 131072U}) {
      for (const Workload workload : {Workload::kRead, Workload::kWrite, Workload::kMixed}) {
        const auto title = [&](const char* what) {
          return fmt::format("{}: {} of {} KiB, {}", BackendName(backend), WorkloadName(workload),
                             block_bytes / 1024, what);
        };
        const Plot rate(title("requests per second"), "queue depth", "IOPS",
                        Collect(results, backend, workload, block_bytes, &Sample::iops));
        const Plot latency(title("median latency"), "queue depth", "microseconds",
                           Collect(results, backend, workload, block_bytes, &Sample::p50_us));
        if (rate.is_empty()) continue;
        html += "<div>" + rate.Svg() + latency.Svg() + "</div>\n";
      }
    }
  }
  return html;
}

std::string RunsTable(const Results& results) {
  std::string html =
      "<table><tr><th>backend</th><th>load</th><th>subject</th><th>IOPS (min to max)</th>"
      "<th>MB/s</th><th>p50 us</th><th>p99 us</th><th>p99.9 us</th><th>CPU us/op</th>"
      "<th>doorbells/IO</th><th>interrupts/IO</th></tr>\n";
  for (const Run& run : results.runs) {
    const Spread iops = run.Of(&Sample::iops);
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} ({} to {})</td><td>{:.0f}</td><td>{}</td>"
        "<td>{}</td><td>{}</td><td>{}</td><td>{:.4f}</td><td>{:.4f}</td></tr>\n",
        BackendName(run.backend), CellName(run.cell), EscapeHtml(run.subject),
        HumanCount(iops.median), HumanCount(iops.min), HumanCount(iops.max),
        run.Of(&Sample::mb_per_s).median, HumanMicroseconds(run.Of(&Sample::p50_us).median),
        HumanMicroseconds(run.Of(&Sample::p99_us).median),
        HumanMicroseconds(run.Of(&Sample::p999_us).median),
        HumanMicroseconds(run.Of(&Sample::cpu_us_per_op).median),
        run.Of(&Sample::kicks_per_io).median, run.Of(&Sample::interrupts_per_io).median);
  }
  return html + "</table>\n";
}

std::string LinuxDriverTable(const Results& results) {
  if (results.linux_driver.empty()) return "";
  std::string html =
      "<p>Linux's virtio-blk driver in a guest (emulated: counted, not timed)</p>\n"
      "<table><tr><th>target</th><th>depth</th><th>I/Os</th><th>doorbells/IO</th>"
      "<th>interrupts/IO</th></tr>\n";
  for (const FunctionalRow& row : results.linux_driver) {
    const auto ios = static_cast<double>(row.ios);
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.3f}</td><td>{:.3f}</td></tr>\n",
        EscapeHtml(row.target), row.depth, row.ios, static_cast<double>(row.doorbells) / ios,
        static_cast<double>(row.interrupts) / ios);
  }
  return html + "</table>\n";
}

std::string IdleText(const Results& results, const Summary& summary) {
  if (!results.idle) return "";
  return fmt::format(
      "<p>Idle for {:.0f} s: {:.2f}% of a core, both ends ({:.2f}% the target). First request "
      "afterwards: {:.0f} doorbell(s), {} us.</p>\n",
      results.idle->seconds, results.idle->cpu_percent, results.idle->target_cpu_percent,
      summary.first_request_doorbells.value_or(0),
      HumanMicroseconds(summary.first_request_us.value_or(0)));
}

}  // namespace

std::string ReportHtml(const Results& results) {
  const Summary summary = Summarize(results);
  std::string html = HtmlHead("filer bench bridge", "The bridge between two cores");
  html += fmt::format(
      "<p>{}. Load on core {}, target on core {}. Ground: {:.0f} ns for a cache "
      "line to the other core and back ({}). Medians of {} repetitions of {:.2f} "
      "s, subjects interleaved; bars span all repetitions.</p>\n",
      EscapeHtml(results.machine.dump()), results.cores.load, results.cores.server,
      summary.ping_pong_ns, summary.is_near ? "near" : "far", results.repetitions,
      results.seconds_per_run);
  html += VerdictsHtml(Judge(summary)) + IdleText(results, summary) + Plots(results) +
          RunsTable(results) + LinuxDriverTable(results);
  for (const Skipped& one : results.skipped) {
    html += fmt::format("<p>Not measured: {}, {}: {}</p>\n", EscapeHtml(one.subject),
                        EscapeHtml(one.backend), EscapeHtml(one.reason));
  }
  return html + "</body></html>\n";
}

}  // namespace filer::bench
