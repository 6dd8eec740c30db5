// volume_methods.h: what an operator wants to know of a served volume.
#pragma once

#include <string>

#include "base/result.h"
#include "fsal/engine-control/params.h"
#include "fsal/engine/engine.h"

namespace filer::control {

Result<Json> ShowVolume(engine::Engine& engine, const Params& params);
// Also of a volume that is mounted for a look only.
Json DescribeVolume(engine::Engine& engine);

// For `status` of whoever serves the engine, too.
Json ToJson(const engine::EngineCounters& counters);
Json ToJson(const engine::EngineStatistics& statistics);
std::string UuidText(const engine::Engine& engine);  // 32 digits

}  // namespace filer::control
