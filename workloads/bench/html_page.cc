#include "workloads/bench/html_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace filer::bench {

std::string EscapeHtml(std::string_view text) {
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

std::string HtmlHead(std::string_view title, std::string_view heading) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n"
      "<style>body{{font:15px sans-serif;margin:2em;max-width:1300px}}"
      "svg text{{font:11px sans-serif}}.grid{{stroke:#ddd}}"
      "figure{{display:inline-block;margin:0 1em 1em 0}}"
      "table{{border-collapse:collapse;margin:1em 0}}"
      "td,th{{padding:3px 9px;border:1px solid #ccc;text-align:left}}.met{{color:#1e8449}}"
      ".missed{{color:#c0392b;font-weight:bold}}</style></head><body>\n<h1>{}</h1>\n",
      EscapeHtml(title), EscapeHtml(heading));
}

std::string VerdictsHtml(const std::vector<Verdict>& verdicts) {
  std::string html = "<table><tr><th>target</th><th>wanted</th><th>measured</th><th></th></tr>\n";
  for (const Verdict& verdict : verdicts) {
    const char* word = !verdict.is_met ? "not measured" : (*verdict.is_met ? "met" : "missed");
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td></tr>\n",
                        EscapeHtml(verdict.what), EscapeHtml(verdict.target),
                        EscapeHtml(verdict.measured), word, word);
  }
  return html + "</table>\n";
}

Plot::Plot(std::string title, std::string x_name, std::string unit, std::vector<Series> series)
    : title_(std::move(title)),
      x_name_(std::move(x_name)),
      unit_(std::move(unit)),
      series_(std::move(series)) {
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

std::string Plot::Svg() const {
  std::string svg = fmt::format(
      "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" width=\"{}\" "
      "height=\"{}\">\n",
      EscapeHtml(title_), kWidth, kHeight, kWidth, kHeight);
  svg += Axes();
  double legend_y = kTop + 4;
  for (const Series& one : series_) {
    svg += Line(one);
    svg += fmt::format(
        "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"10\" height=\"10\" fill=\"{}\"/>"
        "<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n",
        kRight + 12, legend_y, one.colour, kRight + 26, legend_y + 9, EscapeHtml(one.name));
    legend_y += 18;
  }
  return svg + "</svg></figure>\n";
}

double Plot::X(double depth) const {
  const double span = std::max(x_high_, 1.0);
  return kLeft + 20 + (kRight - kLeft - 40) * std::log2(depth) / span;
}

double Plot::Y(double value) const {
  return kBottom - (kBottom - kTop) * (std::log10(value) - y_low_) / (y_high_ - y_low_);
}

std::string Plot::Axes() const {
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
  return svg + fmt::format("<text x=\"{}\" y=\"{}\">{}; {}</text>\n", kLeft, kBottom + 32,
                           EscapeHtml(x_name_), EscapeHtml(unit_));
}

std::string Plot::Line(const Series& series) const {
  std::string path;
  std::string marks;
  for (const auto& [x, y] : series.points) {
    if (y.min <= 0) continue;
    path += fmt::format("{:.1f},{:.1f} ", X(x), Y(y.median));
    marks += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>"
        "<circle cx=\"{0:.1f}\" cy=\"{4:.1f}\" r=\"3\" fill=\"{3}\"/>\n",
        X(x), Y(y.min), Y(y.max), series.colour, Y(y.median));
  }
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                     path, series.colour) +
         marks;
}

}  // namespace filer::bench
