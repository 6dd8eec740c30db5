// bridge_device.h: a BlockDevice over the initiator's Disk: what the engine runs on in production.
//
// A thread uses one queue, chosen when it first comes, behind that queue's lock; Poll looks at the
// caller's own queue first and then at those that nobody else is looking at, so that no completion
// depends on its submitter. The pool is the disk's arena. A disk that is gone for good answers
// everything with kDeviceGone.
#pragma once

#include <memory>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "host-bridge/initiator/initiator.h"

namespace filer::engine {

// Errors: kNotSupported when the disk takes fewer than kRequestSegmentsMax segments or has no whole
// 4096-byte block.
Result<std::unique_ptr<BlockDevice>> MakeBridgeDevice(std::unique_ptr<bridge::Disk> disk);

}  // namespace filer::engine
