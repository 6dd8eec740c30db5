// network.h: the guest's network: loopback and one interface, with a fixed address or by DHCP.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace filer::agent {

struct NetworkPlan {
  bool is_dhcp = false;
  std::string address;  // "10.0.2.15"
  unsigned prefix = 24;
  std::string gateway;  // empty: none
};

// From the kernel's command line: "nearmetal.net=10.0.2.15/24,10.0.2.2" or "nearmetal.net=dhcp";
// nothing when the word is missing. Errors: kInvalidArgument.
Result<std::optional<NetworkPlan>> ParseNetworkPlan(std::string_view kernel_command_line);

// Brings up lo. Errors: kSystem.
Result<void> BringUpLoopback();

// Waits for the first interface besides lo and returns its name. Errors: kTimedOut.
Result<std::string> WaitForInterface(std::chrono::milliseconds timeout);

// Gives `interface` the plan's fixed address, brings it up and sets the default route.
Result<void> BringUpInterface(const std::string& interface, const NetworkPlan& plan);

}  // namespace filer::agent
