// `filer top`: what the bridge does now, per volume, once per second.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/top_sample.h"

namespace filer::command {
namespace {

constexpr auto kInterval = std::chrono::seconds(1);
constexpr const char* kClear = "\033[H\033[J";  // to the top, and nothing below

struct Sight {
  Json status;
  std::chrono::steady_clock::time_point at;
};

// The bridge may be away for a moment, while it is started again.
Result<Sight> LookAt(const Home& home) {
  auto status = CallBridge(home, "status");
  if (!status && status.error() == Errc::kNotRunning && CallKeeper(home, "status")) {
    std::this_thread::sleep_for(kInterval);
    status = CallBridge(home, "status");
  }
  if (!status && status.error() == Errc::kNotRunning) {
    return Error(Errc::kNotRunning,
                 "the filer of " + home.root + " is not running; start it with `filer up`");
  }
  if (!status) return status.error();
  return Sight{std::move(status).value(), std::chrono::steady_clock::now()};
}

}  // namespace

int Top(const Home& home, const TopOptions& options) {
  const bool is_once = options.is_once || options.as_json || ::isatty(STDOUT_FILENO) == 0;
  auto before = LookAt(home);
  if (!before) return Fail(before.error());
  while (true) {
    std::this_thread::sleep_for(kInterval);
    auto after = LookAt(home);
    if (!after) return Fail(after.error());
    const std::chrono::duration<double> elapsed = after.value().at - before.value().at;
    const Json sample = TopSample(before.value().status, after.value().status, elapsed.count());
    if (options.as_json) {
      fmt::print("{}\n", sample.dump(2));
    } else {
      fmt::print("{}{}", is_once ? "" : kClear, TopTable(sample));
    }
    std::fflush(stdout);
    if (is_once) return kExitOk;
    before = std::move(after);
  }
}

}  // namespace filer::command
