// volume_path.h: folders of a volume by their path from its root, for exports.
#pragma once

#include <string>

#include "base/result.h"
#include "fsal/engine-control/params.h"
#include "fsal/engine/engine.h"

namespace filer::control {

// Finds a directory by its path inside the volume. ".." and symbolic links are refused. Errors:
// kNotFound with a line that says which part is missing; kNotDirectory; kInvalidName.
Result<engine::Attributes> FindDirectory(engine::Engine& engine, const std::string& path);

// {"path": "/a/b", "mode": 493}: makes the last part if it is missing. {"created": true|false}
Result<Json> MakeDirectory(engine::Engine& engine, const Params& params);

}  // namespace filer::control
