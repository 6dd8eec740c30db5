// html_report.cc: one page without scripts and without anything from the network: plots as inline
// SVG, the targets, and every figure in a table.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "workloads/bench/results.h"

namespace filer::bench {
namespace {

struct Series {
  std::string name;
  std::vector<std::pair<double, Spread>> points;  // x, y
};

std::string Escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string ColourOf(std::string_view subject) {
  const SubjectKind* kind = FindSubjectKind(subject);
  return kind == nullptr ? "#000000" : std::string(kind->colour);
}

// Both axes logarithmic: depths double, rates span decades.
class Plot {
 public:
  Plot(std::string title, std::string unit, std::vector<Series> series)
      : title_(std::move(title)), unit_(std::move(unit)), series_(std::move(series)) {
    for (const Series& one : series_) {
      for (const auto& [x, y] : one.points) {
        if (y.min <= 0) continue;
        y_low_ = std::min(y_low_, std::floor(std::log10(y.min)));
        y_high_ = std::max(y_high_, std::ceil(std::log10(y.max)));
        x_high_ = std::max(x_high_, std::log2(x));
      }
    }
    if (y_high_ <= y_low_) y_high_ = y_low_ + 1;
  }
  bool is_empty() const { return x_high_ < 0; }

  std::string Svg() const {
    std::string svg = fmt::format(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" width=\"{}\" "
        "height=\"{}\">\n",
        Escape(title_), kWidth, kHeight, kWidth, kHeight);
    svg += Axes();
    double legend_y = kTop + 4;
    for (const Series& one : series_) {
      svg += Line(one);
      svg += fmt::format(
          "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"10\" height=\"10\" fill=\"{}\"/>"
          "<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n",
          kRight + 12, legend_y, ColourOf(one.name), kRight + 26, legend_y + 9, Escape(one.name));
      legend_y += 18;
    }
    return svg + "</svg></figure>\n";
  }

 private:
  static constexpr double kWidth = 620, kHeight = 260;
  static constexpr double kLeft = 60, kRight = 460, kTop = 12, kBottom = 225;

  double X(double depth) const {
    const double span = std::max(x_high_, 1.0);
    return kLeft + 20 + (kRight - kLeft - 40) * std::log2(depth) / span;
  }
  double Y(double value) const {
    return kBottom - (kBottom - kTop) * (std::log10(value) - y_low_) / (y_high_ - y_low_);
  }

  std::string Axes() const {
    std::string svg;
    for (double decade = y_low_; decade <= y_high_; decade += 1) {
      const double value = std::pow(10, decade);
      svg += fmt::format(
          "<line x1=\"{0}\" y1=\"{2:.1f}\" x2=\"{1}\" y2=\"{2:.1f}\" class=\"grid\"/>"
          "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
          kLeft, kRight, Y(value), kLeft - 6, Y(value) + 4,
          value >= 1000 ? HumanCount(value) : fmt::format("{:g}", value));
    }
    for (double power = 0; power <= std::max(x_high_, 0.0); power += 1) {
      const double depth = std::exp2(power);
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n",
                         X(depth), kBottom + 16, depth);
    }
    return svg + fmt::format("<text x=\"{}\" y=\"{}\">queue depth; {}</text>\n", kLeft,
                             kBottom + 32, Escape(unit_));
  }

  // With a bar from the smallest to the largest repetition.
  std::string Line(const Series& series) const {
    std::string path;
    std::string marks;
    for (const auto& [x, y] : series.points) {
      if (y.min <= 0) continue;
      path += fmt::format("{:.1f},{:.1f} ", X(x), Y(y.median));
      marks += fmt::format(
          "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>"
          "<circle cx=\"{0:.1f}\" cy=\"{4:.1f}\" r=\"3\" fill=\"{3}\"/>\n",
          X(x), Y(y.min), Y(y.max), ColourOf(series.name), Y(y.median));
    }
    return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                       path, ColourOf(series.name)) +
           marks;
  }

  std::string title_, unit_;
  std::vector<Series> series_;
  double y_low_ = 12, y_high_ = -12, x_high_ = -1;
};

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
    if (found == all.end()) found = all.insert(all.end(), {run.subject, {}});
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
        const Plot rate(title("requests per second"), "IOPS",
                        Collect(results, backend, workload, block_bytes, &Sample::iops));
        const Plot latency(title("median latency"), "microseconds",
                           Collect(results, backend, workload, block_bytes, &Sample::p50_us));
        if (rate.is_empty()) continue;
        html += "<div>" + rate.Svg() + latency.Svg() + "</div>\n";
      }
    }
  }
  return html;
}

std::string TargetsTable(const Results& results) {
  std::string html = "<table><tr><th>target</th><th>wanted</th><th>measured</th><th></th></tr>\n";
  for (const Verdict& verdict : Judge(Summarize(results))) {
    const char* word = !verdict.is_met ? "not measured" : (*verdict.is_met ? "met" : "missed");
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td></tr>\n",
                        Escape(verdict.what), Escape(verdict.target), Escape(verdict.measured),
                        word, word);
  }
  return html + "</table>\n";
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
        BackendName(run.backend), CellName(run.cell), Escape(run.subject), HumanCount(iops.median),
        HumanCount(iops.min), HumanCount(iops.max), run.Of(&Sample::mb_per_s).median,
        HumanMicroseconds(run.Of(&Sample::p50_us).median),
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
        Escape(row.target), row.depth, row.ios, static_cast<double>(row.doorbells) / ios,
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

constexpr const char* kHead =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>filer bench "
    "bridge</title>\n<style>body{font:15px sans-serif;margin:2em;max-width:1300px}"
    "svg text{font:11px sans-serif}.grid{stroke:#ddd}figure{display:inline-block;margin:0 1em 1em "
    "0}table{border-collapse:collapse;margin:1em 0}td,th{padding:3px 9px;border:1px solid "
    "#ccc;text-align:left}.met{color:#1e8449}.missed{color:#c0392b;font-weight:bold}</style>"
    "</head><body>\n<h1>The bridge between two cores</h1>\n";

}  // namespace

std::string ReportHtml(const Results& results) {
  const Summary summary = Summarize(results);
  std::string html = kHead;
  html += fmt::format(
      "<p>{}. Load on core {}, target on core {}. Ground: {:.0f} ns for a cache "
      "line to the other core and back ({}). Medians of {} repetitions of {:.2f} "
      "s, subjects interleaved; bars span all repetitions.</p>\n",
      Escape(results.machine.dump()), results.cores.load, results.cores.server,
      summary.ping_pong_ns, summary.is_near ? "near" : "far", results.repetitions,
      results.seconds_per_run);
  html += TargetsTable(results) + IdleText(results, summary) + Plots(results) + RunsTable(results) +
          LinuxDriverTable(results);
  for (const Skipped& one : results.skipped) {
    html += fmt::format("<p>Not measured: {}, {}: {}</p>\n", Escape(one.subject),
                        Escape(one.backend), Escape(one.reason));
  }
  return html + "</body></html>\n";
}

}  // namespace filer::bench
