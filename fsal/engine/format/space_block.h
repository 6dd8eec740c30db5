// space_block.h: one block of the map of used space: a bit for each 16 KiB unit of the node region,
// then, from a new block on, one for each block of the data area. Each has two places; a checkpoint
// writes it into the one that the checkpoint before does not need. Derived data: when it does not
// add up to what the uberblock says (map_sum), it is made anew from the tree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"
#include "fsal/engine/format/label.h"

namespace filer::engine {

inline constexpr std::uint64_t kSpaceBlockMagic = 0x4345505343504D4EULL;
inline constexpr std::size_t kSpaceWords = 504;
inline constexpr std::uint64_t kSpaceBits = kSpaceWords * 64;  // of a block of the map

struct SpaceBlock {
  le64 magic;  // kSpaceBlockMagic
  le32 version;
  le32 reserved;  // zero
  std::uint8_t volume_uuid[16];
  le64 index;               // which block of the map
  le64 epoch;               // tree_epoch of the checkpoint that wrote it
  le64 words[kSpaceWords];  // a set bit: used
  std::uint8_t reserved_tail[12];
  le32 crc32c;  // of every byte above
};
static_assert(DiskStruct<SpaceBlock>);
static_assert(sizeof(SpaceBlock) == kMetaBlockBytes && offsetof(SpaceBlock, crc32c) == 4092);

// Blocks of the map for so many bits.
constexpr std::uint64_t SpaceBlocksFor(std::uint64_t bit_count) noexcept {
  return (bit_count + kSpaceBits - 1) / kSpaceBits;
}

// Where block `index` of the map lies, in `place` 0 or 1.
std::uint64_t SpaceBlockPlace(const VolumeLayout& layout, std::uint64_t index,
                              std::uint32_t place) noexcept;

// What a block of the map adds to Uberblock::map_sum.
std::uint64_t SpaceBlockSum(std::uint64_t index, std::uint32_t crc32c) noexcept;

// Whether `block`, read as block `index` of the map, is one, of this volume.
bool IsSpaceBlock(const SpaceBlock& block, const VolumeUuid& uuid, std::uint64_t index) noexcept;

}  // namespace filer::engine
