// scrub_methods.h: a pass over all metadata and data while the volume is served: started, asked,
// stopped. What they answer: {"state": "running" | "finished" | "stopped" | "failed" | "never",
// "percent", "seconds", "remaining_s" (null: not known), "bytes_verified", "findings": [{"what",
// "where", "path"}], "has_more_findings", "failure"}.
#pragma once

#include "base/result.h"
#include "fsal/engine-control/params.h"
#include "fsal/engine/engine.h"

namespace filer::control {

// {"bytes_per_second": N, "from_start": true}, both optional.
Result<Json> StartScrub(engine::Engine& engine, const Params& params);
Result<Json> ScrubProgress(engine::Engine& engine, const Params& params);
Result<Json> StopScrub(engine::Engine& engine, const Params& params);

}  // namespace filer::control
