// status.h: what the control socket says about the daemon.
#pragma once

#include <vector>

#include "base/json_rpc.h"
#include "host-bridge/daemon/options.h"
#include "host-bridge/target/poller_group.h"

namespace filer::bridge {

// The result of method `status`. Any thread; reads counters while they move. `pollers` has an
// object per poller, `poller` their sums. `latency` of a volume has, per operation, how many were
// measured (latency.h), percentiles, and the counts themselves:
// [[index, nanoseconds at most, requests], ...].
Json StatusJson(const PollerGroup& pollers, const std::vector<VolumeSpec>& specs);

}  // namespace filer::bridge
