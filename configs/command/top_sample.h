// top_sample.h: from two `status` answers of the bridge to what happened between them.
#pragma once

#include "base/json_rpc.h"

namespace filer::command {

// {schema, seconds, volumes: [{name, iops, read_iops, write_iops, mb_per_s, read_mb_per_s,
// write_mb_per_s, latency_us: {OPERATION: {p50, p99}}, kicks_per_s, interrupts_per_s, held,
// errors}], poller: {busy_percent, sleeps_per_s}}. `seconds` > 0. When the bridge was started again
// in between, `before` counts as zero.
Json TopSample(const Json& before, const Json& after, double seconds);

// The same as a table.
std::string TopTable(const Json& sample);

}  // namespace filer::command
