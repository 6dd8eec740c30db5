// fileset_methods.h: filesets and snapshots, by their names. "fileset" is the volume's first one
// where it is not given.
#pragma once

#include <vector>

#include "fsal/engine-control/control.h"

namespace filer::control {

// fileset.* and snapshot.*
const std::vector<ControlMethod>& FilesetMethods();

}  // namespace filer::control
