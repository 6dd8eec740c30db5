// block_run.h: blocks that lie one behind another.
#pragma once

#include <cstdint>

namespace filer::engine {

struct BlockRun {
  std::uint64_t first = 0;  // block of the device
  std::uint64_t count = 0;
};

}  // namespace filer::engine
