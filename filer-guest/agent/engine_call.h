// engine_call.h: the way of the host's questions to the engine: from the agent's channel to the
// engine's own socket.
#pragma once

#include <string>

#include "base/json_rpc.h"
#include "base/result.h"

namespace filer::agent {

inline constexpr std::uint64_t kEngineCallMsMax = 60'000;

// `params`: {"method": NAME, "params": {...}, "timeout_ms": N}; the result is the engine's. Blocks
// for timeout_ms and a second to connect at most, whatever the engine does. Errors:
// kInvalidArgument; kNotRunning when there is no engine; kTimedOut; the engine's own.
Result<Json> CallEngine(const std::string& engine_socket, const Json& params);

}  // namespace filer::agent
