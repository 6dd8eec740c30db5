// log_ring.h: where positions of the log lie on the device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fsal/engine/format/checked.h"

namespace filer::engine {

struct LogRing {
  std::uint64_t first_block = 0;
  std::uint64_t block_count = 0;

  std::uint64_t OffsetOf(std::uint64_t position) const noexcept {
    return (first_block + position % block_count) * kMetaBlockBytes;
  }
  // Of `blocks` from `position` on, how many lie before the ring's end.
  std::uint64_t BlocksBeforeWrap(std::uint64_t position, std::uint64_t blocks) const noexcept {
    return std::min(blocks, block_count - position % block_count);
  }
};

}  // namespace filer::engine
