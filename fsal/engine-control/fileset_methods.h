// fileset_methods.h: filesets and snapshots, by their names. "fileset" is the volume's first one
// where it is not given.
#pragma once

#include <vector>

#include "fsal/engine-control/control.h"

namespace filer::control {

// The id of a fileset by its name; empty: the first one. Errors: kNotFound.
Result<std::uint32_t> FindFilesetId(engine::Engine& engine, const std::string& name);

// fileset.* and snapshot.*
const std::vector<ControlMethod>& FilesetMethods();

}  // namespace filer::control
