#include "configs/command/console.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace filer::command {
namespace {
constexpr auto kProgressEvery = std::chrono::seconds(1);
}

int ExitCodeOf(Errc code) {
  switch (code) {
    case Errc::kUsage:
      return kExitUsage;
    case Errc::kConfigInvalid:
      return kExitConfigInvalid;
    case Errc::kNotFound:
      return kExitNotFound;
    case Errc::kRefused:
    case Errc::kExists:
    case Errc::kBusy:
      return kExitRefused;
    case Errc::kNotRunning:
      return kExitNotRunning;
    default:
      return kExitFailed;
  }
}

int Fail(const Error& error) {
  fmt::print(stderr, "filer: {}\n", error.message());
  return ExitCodeOf(error.code());
}

Step::Step(std::string what)
    : what_(std::move(what)),
      begin_(std::chrono::steady_clock::now()),
      printed_(begin_),
      is_terminal_(::isatty(STDERR_FILENO) != 0) {
  if (is_terminal_) fmt::print(stderr, "  {} ...", what_);
}

Step::~Step() {
  if (!is_done_)
    fmt::print(stderr, "{}{}\n", is_terminal_ ? " " : "  " + what_ + " ... ", "failed");
}

void Step::Progress(const std::string& detail) {
  const auto now = std::chrono::steady_clock::now();
  if (!is_terminal_ || now - printed_ < kProgressEvery) return;
  printed_ = now;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - begin_).count();
  fmt::print(stderr, "\r\033[K  {} ... {} s {}", what_, seconds, detail);
}

void Step::Done(const std::string& detail) {
  is_done_ = true;
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  fmt::print(stderr, "{}  {} ... {:.1f} s{}\n", is_terminal_ ? "\r\033[K" : "", what_, seconds,
             detail.empty() ? "" : " (" + detail + ")");
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t at = 0; at < row.size(); ++at)
      widths[at] = std::max(widths[at], row[at].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t at = 0; at < row.size(); ++at) {
      line += at + 1 == row.size() ? row[at] : fmt::format("{:<{}}  ", row[at], widths[at]);
    }
    text += line + "\n";
  }
  return text;
}

std::string HumanBytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace filer::command
