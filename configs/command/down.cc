// `filer down`: stops the filer in order, so that nothing that was acknowledged waits for recovery,
// and leaves no process, mount or temporary file behind. Also cleans up after processes that were
// killed.
#include <fmt/core.h>
#include <sys/mount.h>

#include <filesystem>

#include "base/mount_table.h"
#include "base/remove_tree.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/filer_side.h"
#include "configs/command/live.h"
#include "configs/command/state.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

constexpr auto kBridgeGrace = std::chrono::seconds(10);

// What a killed process left mounted below the run folder is detached, since its server is gone.
// Then the folder goes, but never what is still mounted there: that may be the volume.
Result<void> RemoveRunFolder(const Home& home) {
  for (const std::string& mount_point : FILER_TRY(MountPointsBelow(home.Run()))) {
    ::umount2(mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  }
  const std::vector<std::string> left = FILER_TRY(MountPointsBelow(home.Run()));
  if (!left.empty()) {
    return Error(Errc::kBusy, left.front() + ": still mounted, so " + home.Run() +
                                  " is kept; unmount it, then run `filer down` again");
  }
  return RemoveTree(home.Run());
}

// Stops whoever uses the bridge, before the bridge is stopped. True if there was somebody.
Result<bool> StopFileServices(const Home& home, const RunningState& state) {
  const bool is_running = IsRunning(state.filer);
  if (!is_running && !HasLeftServers(home)) return false;
  const bool is_guest = is_running && state.mode == "guest";
  Step step(is_guest     ? "stopping the guest"
            : is_running ? "stopping the file services"
                         : "stopping the file services, whose agent died");
  const std::string note = FILER_TRY(StopFilerSide(home, state));
  step.Done();
  if (!note.empty()) {
    fmt::print("  not a clean stop: {}; the next `filer up` recovers the volumes\n", note);
  }
  return true;
}

}  // namespace

int Down(const Home& home) {
  if (!fs::exists(home.Run())) {
    fmt::print("not running\n");
    return kExitOk;
  }
  auto lock = LockHome(home);
  if (!lock) return Fail(lock.error());
  auto recorded = LoadState(home);
  if (!recorded) return Fail(recorded.error());
  const RunningState state = WithUnrecorded(home, recorded.value().value_or(RunningState()));
  const auto stopped = StopFileServices(home, state);
  if (!stopped) return Fail(stopped.error());
  bool was_running = recorded.value().has_value() || stopped.value();
  if (IsRunning(state.bridge)) {
    was_running = true;
    Step step("stopping the bridge");
    if (auto ended = StopProcess(state.bridge, kBridgeGrace); !ended) {
      return Fail(ended.error());
    }
    step.Done();
  }
  if (auto removed = RemoveRunFolder(home); !removed) return Fail(removed.error());
  fmt::print("{}\n", was_running ? "down" : "not running");
  return kExitOk;
}

}  // namespace filer::command
