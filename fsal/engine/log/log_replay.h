// log_replay.h: reads the log from its head and hands out the groups that verify, each once, in
// order. The first one that does not (a gap, a stale epoch, another volume's, a wrong link, a torn
// write) is the end of the log. A torn end is normal after a crash. Damage before the end is told
// from it by later groups, which say what was durable when they were written: such a log is refused
// (kCorrupt) rather than silently cut.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/log/log_ring.h"

namespace filer::engine {

struct ReplayEnd {
  GroupPlace next;  // what the next group would have said
  std::uint64_t group_count = 0;
};

// Calls `apply` for the payload of each group; its error ends the replay. Blocking.
// Errors: kCorrupt, the device's, apply's.
Result<ReplayEnd> ReplayLog(
    BlockDevice& device, const LogRing& ring, const GroupPlace& head,
    const std::function<Result<void>(const GroupHeader& header, std::string_view payload)>& apply);

}  // namespace filer::engine
