#include "configs/command/live.h"

#include "filer-guest/launcher/launcher.h"

namespace filer::command {
namespace {
constexpr auto kAnswerTimeout = std::chrono::seconds(5);
}

Result<Json> CallBridge(const Home& home, const std::string& method, const Json& params) {
  RpcClient client = FILER_TRY(RpcClient::Connect(home.BridgeControl()));
  return client.Call(method, params, kAnswerTimeout);
}

std::string Liveness::HealthState() const {
  if (!is_filer_running) return "down";
  const std::string state = health.value("state", "no answer");
  if (state != "failed") return state;
  return "failed: " + health.value("error", "");
}

Liveness Look(const Home& home, const RunningState& state) {
  Liveness live;
  live.is_bridge_running = IsRunning(state.bridge);
  live.is_filer_running = IsRunning(state.filer);
  if (live.is_bridge_running) {
    if (auto answer = CallBridge(home, "status")) live.bridge = std::move(answer).value();
  }
  if (live.is_filer_running) {
    auto answer = guest::CallAgent(home.AgentSocket(), "health", Json::object(), kAnswerTimeout);
    if (answer) live.health = std::move(answer).value();
  }
  return live;
}

}  // namespace filer::command
