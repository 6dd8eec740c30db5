// backend_device.h: one of the bridge's backends as a volume of this process: what the engine
// through the bridge is compared with. The bridge's own code moves the bytes in both; what lies
// between is the difference.
#pragma once

#include <memory>

#include "fsal/engine/device/block_device.h"
#include "host-bridge/backend/backend.h"

namespace filer::bench {

// Errors: kNoMemory, those of OpenQueue.
Result<std::unique_ptr<engine::BlockDevice>> MakeBackendDevice(
    std::unique_ptr<bridge::Backend> backend, std::uint64_t pool_bytes);

}  // namespace filer::bench
