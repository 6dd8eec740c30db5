// volume_methods.h: methods of the control socket that change a volume while it is served.
//   grow  {volume}                      the file was made larger: find its size, tell the client
//   limit {volume, iops, bytes_per_s}   per second; 0 or left out: no limit
#pragma once

#include "base/json_rpc.h"
#include "host-bridge/target/poller_group.h"

namespace filer::bridge {

// Adds them. `pollers` outlive the server that gets them.
void AddVolumeMethods(PollerGroup& pollers, RpcMethods& methods);

}  // namespace filer::bridge
