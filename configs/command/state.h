// state.h: what `filer up` started, for the commands that come later. Written atomically; believed
// only as far as the processes it names still run (pid and start time).
#pragma once

#include <optional>
#include <string>

#include "base/json_rpc.h"
#include "base/process.h"
#include "base/result.h"
#include "configs/command/home.h"

namespace filer::command {

struct RunningState {
  std::string mode;   // "guest" or "host"
  std::string accel;  // "kvm", "tcg", "none"
  std::string accel_reason;
  std::string image_version;  // guest mode
  ProcessId bridge;           // the keeper of the bridge daemon
  ProcessId filer;            // QEMU, or the agent in host mode
  std::string qmp_socket;     // guest mode
  std::string config_text;    // the configuration that was applied, whole
};

// nullopt when there is no state file. Errors: kCorrupt for one that is no state of ours.
Result<std::optional<RunningState>> LoadState(const Home& home);
Result<void> SaveState(const Home& home, const RunningState& state);

}  // namespace filer::command
