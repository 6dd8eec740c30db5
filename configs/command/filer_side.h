// filer_side.h: the half of the filer above the bridge: a guest, or in host mode the same services
// beside it. Started, given its configuration through its agent, and stopped.
#pragma once

#include <string>

#include "base/process.h"
#include "base/result.h"
#include "configs/command/commands.h"
#include "configs/command/home.h"
#include "configs/command/state.h"
#include "configs/config.h"

namespace filer::command {

struct FilerSide {
  std::string mode;
  std::string accel = "none";
  std::string accel_reason;
  std::string image_version;
  ProcessId process;
  std::string qmp_socket;
};

// Errors: kBusy "port N is in use" for the first NFS or SMB port that somebody listens on (when it
// is this machine that listens); kConfigInvalid for what the mode ("guest", "host") cannot do.
Result<void> CheckNetwork(const configs::ApplianceConfig& config, const std::string& mode);

// Guest mode: builds the image if its inputs changed, then boots it until the agent answers. Host
// mode: starts the agent. Errors: one line with the log that tells more. Blocking.
Result<FilerSide> StartFilerSide(const Home& home, const Installation& installation,
                                 const configs::ApplianceConfig& config, const UpOptions& options);

// Sends the configuration, waits until all services answer. Errors: the agent's own, kTimedOut.
// Blocking.
Result<void> ConfigureFilerSide(const Home& home, const Installation& installation,
                                const configs::ApplianceConfig& config, const FilerSide& side);

// After the bridge was started again below a running filer: waits a bounded time for its front end
// to be back. In vain if the filer had given up; `Look` tells.
void WaitForReconnect(const Home& home, const RunningState& state);

// Host mode: true when an agent that was killed left servers, which end on their own account and
// use the bridge until then.
bool HasLeftServers(const Home& home);

// Ordered stop, also of servers whose agent was killed: nobody uses the bridge when it returns. The
// value says why the stop was not clean; empty if it was. Errors: kTimedOut, kSystem. Blocking.
Result<std::string> StopFilerSide(const Home& home, const RunningState& state);
// Stop without ceremony, for a start that failed.
void AbandonFiler(const Home& home, const FilerSide& side);

}  // namespace filer::command
