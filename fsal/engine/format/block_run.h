// block_run.h: blocks that lie one behind another.
#pragma once

#include <cstdint>

namespace filer::engine {

struct BlockRun {
  std::uint64_t first = 0;  // block of the device
  std::uint64_t count = 0;
};

// A run that a tree ceases to refer to, and since which epoch it did: what was born before a
// snapshot belongs to that, too.
struct DroppedRun {
  BlockRun run;
  std::uint64_t birth_epoch = 0;
};

}  // namespace filer::engine
