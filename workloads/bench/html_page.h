// html_page.h: pieces of a page without scripts and without anything from the network: head, plots
// as inline SVG, the table of targets. Values; no threads.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workloads/bench/statistics.h"
#include "workloads/bench/verdict.h"

namespace filer::bench {

std::string EscapeHtml(std::string_view text);
// Up to and with the heading; the page ends with "</body></html>".
std::string HtmlHead(std::string_view title, std::string_view heading);
std::string VerdictsHtml(const std::vector<Verdict>& verdicts);

struct Series {
  std::string name;
  std::string colour;
  std::vector<std::pair<double, Spread>> points;  // x, y
};

// Both axes logarithmic: depths double, rates span decades. Bars span all repetitions.
class Plot {
 public:
  Plot(std::string title, std::string x_name, std::string unit, std::vector<Series> series);
  bool is_empty() const { return x_high_ < 0; }
  std::string Svg() const;

 private:
  static constexpr double kWidth = 620, kHeight = 260;
  static constexpr double kLeft = 60, kRight = 460, kTop = 12, kBottom = 225;
  double X(double depth) const;
  double Y(double value) const;
  std::string Axes() const;
  std::string Line(const Series& series) const;

  std::string title_, x_name_, unit_;
  std::vector<Series> series_;
  double y_low_ = 12, y_high_ = -12, x_high_ = -1;
};

}  // namespace filer::bench
