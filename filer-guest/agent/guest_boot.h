// guest_boot.h: what PID 1 does before it can answer: file systems, modules, network, the port.
// Also the ways out: power off.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "filer-guest/agent/children.h"

namespace filer::agent {

inline constexpr const char* kAgentPortName = "org.nearmetal.agent";

struct BootOptions {
  std::vector<std::string> modules;  // loaded before the port is looked for
};

// Mounts what the initrd's init has not, loads modules, brings up loopback and the network of the
// kernel's command line. The network may fail without ending the boot: the error comes back in
// `network_error`, so that the agent can say so.
struct BootOutcome {
  std::string network_error;
};
Result<BootOutcome> BootGuest(const BootOptions& options, Children& children);

// Opens the port with this name, waiting for it; makes /dev/virtio-ports/NAME. Errors: kTimedOut.
Result<UniqueFd> OpenAgentPort(const std::string& name);

// Syncs, unmounts what it can, and powers the machine off. Does not return.
[[noreturn]] void PowerOff();

// Milliseconds since the kernel started.
std::int64_t BootMs();

}  // namespace filer::agent
