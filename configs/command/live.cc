#include "configs/command/live.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>

#include "base/file.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::command {
namespace {
constexpr auto kAnswerTimeout = std::chrono::seconds(5);
constexpr auto kAgentSlack = std::chrono::seconds(2);
constexpr auto kDeathPatience = std::chrono::milliseconds(500);
constexpr auto kDeathPoll = std::chrono::milliseconds(10);

// The process that listens on a Unix socket; pid 0 when there is none.
ProcessId ListenerOf(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) return {};
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (!socket.is_open() || ::connect(socket.get(), generic, sizeof(address)) != 0) return {};
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return {};
  const auto process = IdentifyProcess(peer.pid);
  return process ? process.value() : ProcessId();
}

// It may have been killed just before: then it is dying while we look, or being started again.
void LookAtBridge(const Home& home, const RunningState& state, Liveness& live) {
  const auto deadline = std::chrono::steady_clock::now() + kDeathPatience;
  while (IsRunning(state.bridge)) {
    auto answer = CallBridge(home, "status");
    if (answer) live.bridge = std::move(answer).value();
    live.is_bridge_running = answer.has_value() || answer.error() == Errc::kTimedOut;
    if (live.is_bridge_running || std::chrono::steady_clock::now() > deadline) break;
    std::this_thread::sleep_for(kDeathPoll);
  }
  auto keeper = CallKeeper(home, "status");
  if (keeper) live.keeper = std::move(keeper).value();
}
}  // namespace

Result<Json> CallBridge(const Home& home, const std::string& method, const Json& params) {
  RpcClient client = FILER_TRY(RpcClient::Connect(home.BridgeControl()));
  return client.Call(method, params, kAnswerTimeout);
}

Result<Json> CallKeeper(const Home& home, const std::string& method, const Json& params) {
  RpcClient client = FILER_TRY(RpcClient::Connect(home.KeeperControl()));
  return client.Call(method, params, kAnswerTimeout);
}

Result<Json> CallEngine(const Home& home, const RunningState& state, const std::string& method,
                        const Json& params, std::chrono::milliseconds timeout) {
  if (state.mode == "host") {
    RpcClient client = FILER_TRY(RpcClient::Connect(home.EngineSocket()));
    return client.Call(method, params, timeout);
  }
  // The agent's own deadline comes first: its channel must be free for the next command.
  return guest::CallAgent(home.AgentSocket(), "engine",
                          {{"method", method}, {"params", params}, {"timeout_ms", timeout.count()}},
                          timeout + kAgentSlack);
}

std::string Liveness::BridgeState() const {
  if (is_bridge_running) return "running";
  if (keeper.empty()) return "down";
  return fmt::format("down (it {}, {} times in a row; next start in {} ms)",
                     keeper.value("last_end", ""), keeper.value("early_ends", 0),
                     keeper.value("next_start_ms", 0));
}

std::string Liveness::HealthState() const {
  if (!is_filer_running) return "down";
  const std::string state = health.value("state", "no answer");
  if (state == "failed") return "failed: " + health.value("error", "");
  // The agent takes a moment to be sure; what does not heal needs none.
  if (state == "ready" && NeedsRestart()) return "failed: " + Engine().value("error", "");
  return state;
}

Json Liveness::Engine() const {
  const auto engine = health.find("engine");
  return engine != health.end() && engine->is_object() ? *engine : Json();
}

bool Liveness::IsUsable() const {
  if (HealthState() != "ready") return false;
  const Json engine = Engine();
  return engine.is_null() || engine.value("healthy", true);
}

bool Liveness::NeedsRestart() const {
  const Json engine = Engine();
  return !engine.is_null() && engine.value("needs_restart", false);
}

bool Liveness::HasEndedService() const {
  for (const Json& service : health.value("services", Json::array())) {
    if (!service.value("ok", true)) return true;
  }
  return false;
}

Liveness Look(const Home& home, const RunningState& state) {
  Liveness live;
  live.is_filer_running = IsRunning(state.filer);
  LookAtBridge(home, state, live);
  if (live.is_filer_running) {
    auto answer = guest::CallAgent(home.AgentSocket(), "health", Json::object(), kAnswerTimeout);
    if (answer) live.health = std::move(answer).value();
  }
  return live;
}

RunningState WithUnrecorded(const Home& home, const RunningState& state) {
  RunningState found = state;
  if (!IsRunning(found.bridge)) found.bridge = ListenerOf(home.KeeperControl());
  // Without its keeper it is about to end.
  if (!IsRunning(found.bridge)) found.bridge = ListenerOf(home.BridgeControl());
  if (IsRunning(found.filer)) return found;
  if (const auto guest = guest::FindGuest(home.Run())) {
    found.mode = "guest";
    found.filer = guest.value().process;
    return found;
  }
  found.filer = ListenerOf(home.AgentSocket());
  if (found.filer.pid != 0) found.mode = "host";
  return found;
}

}  // namespace filer::command
