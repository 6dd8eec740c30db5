// `filer volume scrub NAME`: has the engine read and verify everything while it serves, and follows
// it. The pass is the engine's: it goes on when this command is interrupted.
#include <fmt/core.h>

#include <thread>

#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/served_volume.h"
#include "configs/syntax.h"

namespace filer::command {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(500);

bool IsRunningPass(const Json& status) { return TextAt(status, "/state") == "running"; }

std::string TimeText(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::size_t FindingCount(const Json& status) {
  const auto findings = status.find("findings");
  return findings != status.end() && findings->is_array() ? findings->size() : 0;
}

std::string ProgressText(const Json& status) {
  std::string text = fmt::format("{:.1f}%, {}", NumberAt(status, "/percent"),
                                 TimeText(NumberAt(status, "/seconds")));
  const double remaining = NumberAt(status, "/remaining_s");
  if (IsRunningPass(status) && remaining > 0) {
    text += fmt::format(", about {} left", TimeText(remaining));
  }
  if (FindingCount(status) > 0) text += fmt::format(", {} findings", FindingCount(status));
  return text;
}

Result<Json> Follow(const Home& home, const ServedVolume& served, Json status) {
  if (!IsRunningPass(status)) return status;
  Step step("verifying volume " + served.volume.name);
  while (IsRunningPass(status)) {
    step.Progress(ProgressText(status));
    std::this_thread::sleep_for(kPoll);
    status = FILER_TRY(CallEngine(home, served.state, "scrub.status"));
  }
  step.Done(TextAt(status, "/state"));
  return status;
}

Result<Json> Run(const Home& home, const ScrubOptions& options) {
  const ServedVolume served = FILER_TRY(RequireServed(home, options.volume));
  if (options.is_status) return CallEngine(home, served.state, "scrub.status");
  if (options.is_stopping) {
    FILER_TRY(CallEngine(home, served.state, "scrub.stop"));
    return CallEngine(home, served.state, "scrub.status");
  }
  Json params = Json::object();
  if (!options.rate.empty()) {
    const auto rate = configs::ParseSize(options.rate);
    if (!rate) {
      return Error(Errc::kUsage,
                   "--rate " + options.rate + ": not bytes per second; write it as 64M or 1G");
    }
    params["bytes_per_second"] = rate.value();
  }
  const auto started = CallEngine(home, served.state, "scrub.start", params);
  // One that runs already is followed.
  if (!started && !(started.error() == Errc::kBusy)) return started.error();
  Json status = FILER_TRY(CallEngine(home, served.state, "scrub.status"));
  if (options.is_background) return status;
  return Follow(home, served, std::move(status));
}

void Print(const std::string& name, const Json& status) {
  if (const auto findings = status.find("findings");
      findings != status.end() && findings->is_array()) {
    for (const Json& finding : *findings) {
      const std::string path = TextAt(finding, "/path");
      fmt::print("{}: {}{}{}\n", TextAt(finding, "/where"), TextAt(finding, "/what"),
                 path.empty() ? "" : ", file ", path);
    }
  }
  const std::string failure = TextAt(status, "/failure");
  fmt::print("volume {}: scrub {}, {}, {} of data verified{}{}\n", name, TextAt(status, "/state"),
             ProgressText(status), HumanBytes(CountAt(status, "/bytes_verified")),
             failure.empty() ? "" : ": ", failure);
}

}  // namespace

int VolumeScrub(const Home& home, const ScrubOptions& options) {
  const auto status = Run(home, options);
  if (!status) return Fail(status.error());
  if (options.volume.as_json) {
    Json json = status.value();
    json["schema"] = "filer.scrub/1";
    json["name"] = options.volume.name;
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    Print(options.volume.name, status.value());
  }
  const bool is_bad =
      FindingCount(status.value()) > 0 || TextAt(status.value(), "/state") == "failed";
  return is_bad ? kExitFailed : kExitOk;
}

}  // namespace filer::command
