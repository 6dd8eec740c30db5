// `filer bridge upgrade`: another bridge daemon under a filer that runs. The old one finishes what
// it has and makes it durable; the new one takes over its clients, who wait meanwhile and notice no
// more than that. One that cannot serve is taken back.
#include <fmt/core.h>

#include <thread>

#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"

namespace filer::command {
namespace {

constexpr auto kDeadline = std::chrono::seconds(30);  // the keeper's own bounds are shorter
constexpr auto kPoll = std::chrono::milliseconds(20);

Result<Json> Upgrade(const Home& home, const std::string& program) {
  const auto asked = CallKeeper(home, "upgrade", {{"program", program}});
  if (!asked && asked.error() == Errc::kNotRunning) {
    return Error(Errc::kNotRunning,
                 "the filer of " + home.root + " is not running; start it with `filer up`");
  }
  if (!asked) return asked.error();
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (std::chrono::steady_clock::now() < deadline) {
    const Json status = FILER_TRY(CallKeeper(home, "status"));
    const Json upgrade = status.value("upgrade", Json::object());
    const std::string state = upgrade.value("state", "");
    if (state == "failed") return Error(Errc::kRefused, upgrade.value("error", "it failed"));
    if (state == "done") return status;
    std::this_thread::sleep_for(kPoll);
  }
  return Error(Errc::kTimedOut, "the bridge's keeper does not finish; see " + home.BridgeLog());
}

}  // namespace

int BridgeUpgrade(const Home& home, const std::string& program, bool as_json) {
  const auto lock = LockHome(home);
  if (!lock) return Fail(lock.error());
  const auto status = Upgrade(home, program);
  if (!status) return Fail(status.error());
  const auto took_ms = status.value()["upgrade"].value("took_ms", 0);
  const std::string running = status.value().value("program", "");
  if (as_json) {
    fmt::print("{}\n", Json{{"schema", "filer.bridge-upgrade/1"},
                            {"program", running},
                            {"pid", status.value().value("pid", 0)},
                            {"took_ms", took_ms}}
                           .dump(2));
  } else {
    fmt::print("the bridge is now {}; requests waited {} ms\n", running, took_ms);
  }
  return kExitOk;
}

}  // namespace filer::command
