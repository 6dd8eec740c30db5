// check.h: the read-only walk over everything in the store (and, if asked, all data) that verifies
// the file system's invariants. Damage is a finding, never an error and never a crash: every value
// is hostile. One thread; nothing else may use the volume.
#pragma once

#include "fsal/engine/device/block_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// Errors: only those of the device's pool. `verify_data` also reads every block and compares its
// checksum.
Result<CheckReport> CheckVolume(BlockDevice& device, Store& store, bool verify_data);

}  // namespace filer::engine
