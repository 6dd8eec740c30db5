// volume_repair.h: `filer volume check NAME --repair`.
#pragma once

#include "configs/command/commands.h"
#include "configs/config.h"

namespace filer::command {

// On the file itself: a volume that is in use is refused. Returns the exit code: failed if files
// lost something.
int VolumeRepair(const configs::VolumeConfig& volume, const VolumeOptions& options);

}  // namespace filer::command
