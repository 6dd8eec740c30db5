// version.h: what the image's manifest says about the programs in it.
#pragma once

#include "base/json_rpc.h"

namespace filer::agent {

inline constexpr const char* kVersion = FILER_VERSION;
// Of the agent's configuration that the host hands over: raised when an older host could not drive
// a newer image any more, or the other way round.
inline constexpr int kStateFormat = 1;

// {"version", "volume_format", "state_format"}
Json VersionsJson();

}  // namespace filer::agent
