// units.h: quantities that must not mix get types of their own. Conversions live here and assert
// that they are exact.
#pragma once

#include <compare>
#include <cstdint>

#include "base/assert.h"

namespace filer {

// An integer with a meaning. Explicit in, explicit out (`.value`), ordered.
template <typename Tag>
struct Quantity {
  std::uint64_t value = 0;
  friend constexpr auto operator<=>(const Quantity&, const Quantity&) = default;
};

inline constexpr std::uint64_t kBlockBytes = 4096;  // the file system's block
inline constexpr std::uint64_t kSectorBytes = 512;  // virtio-blk's unit (VIRTIO 1.2, 5.2.6)

using BlockIndex =
    Quantity<struct BlockIndexTag>;  // in blocks of kBlockBytes from the start of a device or file
using BlockCount = Quantity<struct BlockCountTag>;      // in blocks of kBlockBytes
using GuestAddress = Quantity<struct GuestAddressTag>;  // guest-physical, or IOVA behind a vIOMMU

constexpr BlockIndex operator+(BlockIndex at, BlockCount by) { return {at.value + by.value}; }
constexpr BlockCount operator-(BlockIndex to, BlockIndex from) {
  FILER_ASSERT(to.value >= from.value);
  return {to.value - from.value};
}

constexpr std::uint64_t ToBytes(BlockCount blocks) {
  FILER_ASSERT(blocks.value <= UINT64_MAX / kBlockBytes);
  return blocks.value * kBlockBytes;
}
constexpr std::uint64_t ToByteOffset(BlockIndex block) { return ToBytes({block.value}); }
constexpr BlockCount ToBlocksExact(std::uint64_t bytes) {
  FILER_ASSERT(bytes % kBlockBytes == 0);
  return {bytes / kBlockBytes};
}
constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}
constexpr std::uint64_t RoundDown(std::uint64_t value, std::uint64_t unit) {
  return value / unit * unit;
}

}  // namespace filer
