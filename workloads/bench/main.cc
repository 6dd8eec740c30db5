// main.cc: filer-bench, what `filer bench` becomes. Exit codes: 0 measured (targets met or not), 1
// failed, 2 usage.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "base/file.h"
#include "base/log.h"
#include "workloads/bench/engine/engine_options.h"
#include "workloads/bench/options.h"

namespace filer::bench {
namespace {

std::atomic<bool> is_interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // a handler may set it

void OnSignal(int) { is_interrupted.store(true, std::memory_order_relaxed); }

void TakeSignals() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
}

int Fail(const Error& error) {
  fmt::print(stderr, "filer: bench: {}\n", error.message());
  return error == Errc::kUsage ? 2 : 1;
}

// A line that is written over itself, on a terminal only.
bool ShowProgress(double share, const std::string& what) {
  if (::isatty(STDERR_FILENO) != 0) {
    constexpr int kBarCells = 30;
    const int done = static_cast<int>(share * kBarCells);
    fmt::print(stderr, "\r\033[K[{:<{}}] {:3.0f}%  {}",
               std::string(static_cast<std::size_t>(done), '#'), kBarCells, share * 100, what);
    std::fflush(stderr);
  }
  return !IsStopped(&is_interrupted);
}

std::string ProgramsFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

template <typename Line, typename Run>
int Measure(Result<Line> parsed, Run run) {
  if (parsed.has_error()) return Fail(parsed.error());
  Line line = std::move(parsed).value();
  if (line.is_help) {
    fmt::print("{}", line.help);
    return 0;
  }
  InitLog("filer-bench", "error");
  TakeSignals();
  line.bench.programs = ProgramsFolder();
  if constexpr (requires { line.bench.stop; }) line.bench.stop = &is_interrupted;
  auto results = run(line.bench, OnProgress(&ShowProgress));
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\033[K");
  // What fails while it is being stopped is no failure.
  if (results.has_error() && is_interrupted != 0) {
    return Fail(Error(Errc::kCancelled, "stopped before the end"));
  }
  if (results.has_error()) return Fail(results.error());
  if (IsStopped(&is_interrupted)) return Fail(StoppedError());  // while the targets were stopping
  fmt::print("{}", ReportTable(results.value()));
  if (!line.json_path.empty()) {
    const std::string text = ReportJson(results.value()).dump(1) + "\n";
    if (auto written = WriteFileAtomically(line.json_path, text); written.has_error()) {
      return Fail(written.error());
    }
  }
  if (!line.html_path.empty()) {
    auto written = WriteFileAtomically(line.html_path, ReportHtml(results.value()));
    if (written.has_error()) return Fail(written.error());
  }
  return 0;
}

int Main(int count, char** words) {
  if (count > 1 && std::string_view(words[1]) == "engine") {
    return Measure(ParseEngineCommandLine(count, words), &RunEngineBench);
  }
  return Measure(ParseCommandLine(count, words), &RunBench);
}

}  // namespace
}  // namespace filer::bench

int main(int count, char** words) { return filer::bench::Main(count, words); }
