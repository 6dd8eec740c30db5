// `filer up`: from a configuration to two mount lines. Idempotent: what already runs is kept, what
// died is started again, and what a failing run has started is stopped.
#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "configs/command/applied.h"
#include "configs/command/bridge_command.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/filer_side.h"
#include "configs/command/live.h"
#include "configs/command/volumes.h"
#include "filer-guest/launcher/cores.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

constexpr auto kBridgeDeadline = std::chrono::seconds(15);
constexpr auto kStopGrace = std::chrono::seconds(10);

Result<void> PrepareVolumes(const Applied& applied) {
  for (const configs::VolumeConfig& volume : applied.config.volumes) {
    if (volume.backend != configs::VolumeBackend::kFile) continue;
    const auto info = InspectVolume(volume);
    if (info) continue;
    if (info.error() != Errc::kNotFound || !applied.is_default) return info.error();
    Step step("creating volume " + volume.name);
    FILER_TRY(CreateVolume(volume));
    step.Done(HumanBytes(volume.size_bytes));
  }
  return Ok();
}

// Beside a guest whose processors are pinned each poller has a core of its own. In host mode the
// file services float over all cores, so the pollers do, too.
std::vector<int> PollerCores(const configs::ApplianceConfig& config, const std::string& mode) {
  if (mode != "guest") return {};
  auto plan = guest::PlanCores(guest::UsableCores(), config.guest.cpus, config.bridge.pollers);
  return plan ? std::move(plan->pollers) : std::vector<int>();
}

// The last line that a program wrote before it ended: its one-line error.
std::string LastLine(const std::string& log_path) {
  const auto text = ReadWholeFile(log_path);
  if (!text) return "";
  std::string trimmed = text.value();
  while (!trimmed.empty() && trimmed.back() == '\n') trimmed.pop_back();
  return trimmed.substr(trimmed.rfind('\n') + 1);
}

Result<ProcessId> StartBridge(const Home& home, std::vector<std::string> command) {
  Step step("starting the bridge");
  const auto process =
      FILER_TRY(SpawnDetached({.arguments = std::move(command), .log_path = home.BridgeLog()}));
  const auto deadline = std::chrono::steady_clock::now() + kBridgeDeadline;
  while (std::chrono::steady_clock::now() < deadline) {
    if (CallBridge(home, "status")) {
      step.Done();
      return process;
    }
    if (!IsRunning(process)) return Error(Errc::kSystem, LastLine(home.BridgeLog()));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  FILER_TRY(StopProcess(process, kStopGrace));
  return Error(Errc::kTimedOut, "the bridge does not answer; see " + home.BridgeLog());
}

void PrintMounts(const Home& home, const configs::ApplianceConfig& config) {
  for (const configs::ExportConfig& share : config.exports) {
    if (share.nfs) fmt::print("{}\n", NfsMountLine(config, share));
    if (share.smb) fmt::print("{}\n", SmbMountLine(home, config, share));
  }
}

// What this run has started, and stops again unless Keep is called.
class Started {
 public:
  explicit Started(const Home& home) : home_(home) {}
  ~Started() {
    if (is_kept_) return;
    if (filer_.has_value()) AbandonFiler(home_, *filer_);
    if (bridge_.pid != 0) static_cast<void>(StopProcess(bridge_, kStopGrace).has_value());
  }
  void Bridge(ProcessId process) { bridge_ = process; }
  void Filer(FilerSide side) { filer_ = std::move(side); }
  void Keep() { is_kept_ = true; }

 private:
  const Home& home_;
  ProcessId bridge_;
  std::optional<FilerSide> filer_;
  bool is_kept_ = false;
};

// Ends what an earlier run left half dead, so that its sockets, ports and volume are free. Needs
// the bridge: servers whose agent was killed write to the volume what was not synced.
Result<void> EndRemains(const Home& home, RunningState& state, const Liveness& live) {
  if (live.is_filer_running && !live.IsUsable()) {
    Step step("ending the unhealthy filer (" + live.HealthState() + ")");
    FILER_TRY(StopFilerSide(home, state));
    step.Done();
  } else if (!live.is_filer_running && HasLeftServers(home)) {
    Step step("ending the file services, whose agent died");
    FILER_TRY(StopFilerSide(home, state));
    step.Done();
  }
  return Ok();
}

// The engine's log failed: it takes no changes any more, whatever becomes of the disk. The bridge
// ends with the filer, because after a failed FLUSH it refuses every later one.
Result<void> EndFailed(const Home& home, RunningState& state, const Liveness& live) {
  FILER_TRY(EndRemains(home, state, live));
  if (!IsRunning(state.bridge)) return Ok();
  Step step("ending its bridge");
  FILER_TRY(StopProcess(state.bridge, kStopGrace));
  step.Done();
  return Ok();
}

// Ends what a start that was killed left without recording it: it holds the volume and the ports.
Result<void> EndUnrecorded(const Home& home, const RunningState& state) {
  const RunningState found = WithUnrecorded(home, state);
  const bool has_filer = !IsRunning(state.filer) && IsRunning(found.filer);
  const bool has_bridge = !IsRunning(state.bridge) && IsRunning(found.bridge);
  if (!has_filer && !has_bridge) return Ok();
  Step step("ending what an interrupted start left");
  if (has_filer) FILER_TRY(StopFilerSide(home, found));
  if (has_bridge) FILER_TRY(StopProcess(found.bridge, kStopGrace));
  step.Done();
  return Ok();
}

Result<void> Bring(const Home& home, const UpOptions& options, const Applied& applied,
                   RunningState state) {
  const Installation installation = FindInstallation();
  Started started(home);
  Liveness live = Look(home, state);
  if (live.NeedsRestart()) {
    FILER_TRY(EndFailed(home, state, live));
    live = Look(home, state);
  }
  if (!live.is_bridge_running) {
    if (IsRunning(state.bridge)) {
      Step step("ending the bridge, which is " + live.BridgeState());
      FILER_TRY(StopProcess(state.bridge, kStopGrace));
      step.Done();
    }
    FILER_TRY(PrepareVolumes(applied));
    const bool is_fresh = !live.is_filer_running && !HasLeftServers(home);
    if (is_fresh) FILER_TRY(CheckNetwork(applied.config, options.mode));
    state.bridge =
        FILER_TRY(StartBridge(home, BridgeCommand(home, installation, applied.config,
                                                  PollerCores(applied.config, options.mode))));
    started.Bridge(state.bridge);
    if (live.is_filer_running) WaitForReconnect(home, state);
    live = Look(home, state);
  }
  FILER_TRY(EndRemains(home, state, live));
  if (!IsRunning(state.filer)) {
    FILER_TRY(CheckNetwork(applied.config, options.mode));
    FilerSide side = FILER_TRY(StartFilerSide(home, installation, applied.config, options));
    state.mode = side.mode;
    state.accel = side.accel;
    state.accel_reason = side.accel_reason;
    state.image_version = side.image_version;
    state.filer = side.process;
    state.qmp_socket = side.qmp_socket;
    started.Filer(side);
    FILER_TRY(ConfigureFilerSide(home, installation, applied.config, side));
  }
  state.config_text = applied.text;
  FILER_TRY(SaveState(home, state));
  started.Keep();
  return Ok();
}

}  // namespace

int Up(const Home& home, const UpOptions& options) {
  auto applied = LoadApplied(home, options.config_path);
  if (!applied) return Fail(applied.error());
  if (auto prepared = PrepareHome(home); !prepared) return Fail(prepared.error());
  auto lock = LockHome(home);
  if (!lock) return Fail(lock.error());
  auto loaded = LoadState(home);
  if (!loaded) return Fail(loaded.error());
  RunningState state = loaded.value().value_or(RunningState());
  if (auto ended = EndUnrecorded(home, state); !ended) return Fail(ended.error());
  const bool is_up = IsRunning(state.filer) || IsRunning(state.bridge);
  const std::string mode = options.mode.empty() ? (is_up ? state.mode : "guest") : options.mode;
  if (is_up && mode != state.mode) {
    return Fail(
        Error(Errc::kRefused, "the filer runs in mode " + state.mode + "; run `filer down` first"));
  }
  if (IsRunning(state.filer)) {
    const auto machine = guest::FindGuest(home.Run());
    const bool has_viommu = machine && machine.value().has_viommu;
    if (auto same = CheckAsRunning(state, has_viommu, options); !same) return Fail(same.error());
  }
  if (is_up && options.config_path.empty()) {
    // Without an explicit file a second `up` keeps what runs.
    applied.value().text = state.config_text;
  } else if (is_up && applied.value().text != state.config_text) {
    return Fail(Error(Errc::kRefused,
                      applied.value().source + ": differs from what runs; run `filer down` first"));
  }
  UpOptions effective = options;
  effective.mode = mode;
  if (is_up) {
    auto running = AppliedOf(home, state);
    if (!running) return Fail(running.error());
    applied.value().config = std::move(running).value();
  }
  if (auto brought = Bring(home, effective, applied.value(), state); !brought) {
    return Fail(brought.error());
  }
  PrintMounts(home, applied.value().config);
  return kExitOk;
}

}  // namespace filer::command
