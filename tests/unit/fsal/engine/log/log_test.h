// log_test.h: a small ring on a simulated volume, and what a replay of it finds.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/log/log_replay.h"
#include "fsal/engine/log/log_writer.h"

namespace filer::engine {

inline constexpr LogRing kRing{16, 640};  // 2.5 MiB

inline GroupPlace Head(std::uint64_t log_epoch = 5, std::uint64_t first_lsn = 1) {
  GroupPlace head;
  head.uuid = {1, 2, 3};
  head.log_epoch = log_epoch;
  head.first_lsn = first_lsn;
  return head;
}

// The payloads of the groups, one after another.
inline Result<std::string> ReplayAll(BlockDevice& device, const GroupPlace& head,
                                     ReplayEnd* end = nullptr) {
  std::string all;
  const auto found = FILER_TRY(ReplayLog(
      device, kRing, head, [&](const GroupHeader&, std::string_view payload) -> Result<void> {
        all += payload;
        return Ok();
      }));
  if (end != nullptr) *end = found;
  return all;
}

}  // namespace filer::engine
