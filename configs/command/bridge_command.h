// bridge_command.h: the command line of the bridge, under its keeper, for a configuration.
#pragma once

#include <string>
#include <vector>

#include "configs/command/home.h"
#include "configs/config.h"

namespace filer::command {

// `poller_cores`: those that the pollers have to themselves, one each; empty: they float.
std::vector<std::string> BridgeCommand(const Home& home, const Installation& installation,
                                       const configs::ApplianceConfig& config,
                                       const std::vector<int>& poller_cores);

}  // namespace filer::command
