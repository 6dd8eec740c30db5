// served_volume.h: the volume that the engine of the running filer serves, and how what the engine
// says of it reads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"
#include "configs/command/commands.h"
#include "configs/command/home.h"
#include "configs/command/state.h"
#include "configs/config.h"

namespace filer::command {

struct ServedVolume {
  RunningState state;  // of the filer, for CallEngine
  configs::VolumeConfig volume;
};
// nullopt when the volume that `options` name is not served. Errors: those of the state.
Result<std::optional<ServedVolume>> FindServed(const Home& home, const VolumeOptions& options);
// The same. Errors: kNotRunning when it is not served.
Result<ServedVolume> RequireServed(const Home& home, const VolumeOptions& options);

// Of what an engine said: it may be of another version, and a guest may say anything. 0, empty:
// missing, or something else. `pointer`: "/log/bytes".
double NumberAt(const Json& json, const std::string& pointer);
std::uint64_t CountAt(const Json& json, const std::string& pointer);
std::string TextAt(const Json& json, const std::string& pointer);

// Name and value, from `volume.show`. Of one that is not served only what a look at it tells.
std::vector<std::vector<std::string>> VolumeRows(const Json& volume, bool is_served);
// For `filer status`, from the statistics; two lines.
std::string StatisticsText(const Json& engine);

}  // namespace filer::command
