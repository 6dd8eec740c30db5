#include "filer-guest/agent/engine_call.h"

#include <fmt/core.h>

namespace filer::agent {
namespace {

constexpr std::uint64_t kTimeoutMsDefault = 5'000;

}  // namespace

Result<Json> CallEngine(const std::string& engine_socket, const Json& params) {
  const auto method = params.find("method");
  if (method == params.end() || !method->is_string()) {
    return Error(Errc::kInvalidArgument, "engine: method is missing");
  }
  const Json arguments = params.value("params", Json::object());
  if (!arguments.is_object()) {
    return Error(Errc::kInvalidArgument, "engine: params is no object");
  }
  const Json timeout = params.value("timeout_ms", Json(kTimeoutMsDefault));
  if (!timeout.is_number_unsigned() || timeout == 0 ||
      timeout.get<std::uint64_t>() > kEngineCallMsMax) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("engine: timeout_ms is no number from 1 to {}", kEngineCallMsMax));
  }
  RpcClient client = FILER_TRY(RpcClient::Connect(engine_socket));
  return client.Call(method->get<std::string>(), arguments,
                     std::chrono::milliseconds(timeout.get<std::uint64_t>()));
}

}  // namespace filer::agent
