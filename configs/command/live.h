// live.h: questions to what runs: the bridge's control socket and the agent's health, put together.
#pragma once

#include <chrono>
#include <optional>

#include "base/json_rpc.h"
#include "base/result.h"
#include "configs/command/home.h"
#include "configs/command/state.h"

namespace filer::command {

// One call to the bridge daemon, or to its keeper. Errors: kNotRunning, kTimedOut, kRefused.
Result<Json> CallBridge(const Home& home, const std::string& method,
                        const Json& params = Json::object());
Result<Json> CallKeeper(const Home& home, const std::string& method,
                        const Json& params = Json::object());

// One call to the engine of a running filer, wherever it runs (fsal/engine-control/methods.cc has
// what it answers). Returns a few seconds after `timeout` at most. Errors: kNotRunning, kTimedOut;
// kNotSupported when this engine has no such method; the engine's own.
Result<Json> CallEngine(const Home& home, const RunningState& state, const std::string& method,
                        const Json& params = Json::object(),
                        std::chrono::milliseconds timeout = std::chrono::seconds(10));

// What runs of a recorded filer.
struct Liveness {
  bool is_bridge_running = false;  // its keeper is there, and it serves
  bool is_filer_running = false;
  Json bridge = Json::object();     // `status` of the daemon, empty if it does not answer
  Json keeper = Json::object();     // `status` of the bridge's keeper, likewise
  Json health = Json::object();     // `health` of the agent, empty if it does not answer
  std::string HealthState() const;  // "ready", "starting", "failed: ...", "down"
  // Why the bridge does not run, in a few words.
  std::string BridgeState() const;
  // What the engine says of itself; null when it does not answer.
  Json Engine() const;
  // Ready, and its engine well: what it is told to store it stores.
  bool IsUsable() const;
  // The engine is in a failure that only a start from new mends.
  bool NeedsRestart() const;
  bool HasEndedService() const;
};
Liveness Look(const Home& home, const RunningState& state);

// `state`, and what a `filer up` that was killed started without recording it: the guest that left
// its own record, and whoever listens on the sockets of the bridge and the agent.
RunningState WithUnrecorded(const Home& home, const RunningState& state);

}  // namespace filer::command
