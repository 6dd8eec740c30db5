// bridge_command.h: the command line of the bridge, under its keeper, for a configuration.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/command/home.h"
#include "configs/config.h"

namespace filer::command {

// `poller_core`: the core that the poller has to itself; nullopt: it floats.
std::vector<std::string> BridgeCommand(const Home& home, const Installation& installation,
                                       const configs::ApplianceConfig& config,
                                       std::optional<int> poller_core);

}  // namespace filer::command
