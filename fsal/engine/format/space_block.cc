#include "fsal/engine/format/space_block.h"

namespace filer::engine {

std::uint64_t SpaceBlockPlace(const VolumeLayout& layout, std::uint64_t index,
                              std::uint32_t place) noexcept {
  return layout.map_first_block + 2 * index + place;
}

// The finalizer of SplitMix64: sums of it do not cancel out as sums of checksums might.
std::uint64_t SpaceBlockSum(std::uint64_t index, std::uint32_t crc32c) noexcept {
  std::uint64_t mixed = (index << 32 | crc32c) + 0x9E3779B97F4A7C15ULL;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9ULL;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBULL;
  return mixed ^ mixed >> 31;
}

bool IsSpaceBlock(const SpaceBlock& block, const VolumeUuid& uuid, std::uint64_t index) noexcept {
  return block.magic == kSpaceBlockMagic && block.crc32c == ChecksumOf(block) &&
         block.version == kFormatVersion && block.reserved == 0 && IsZero(block.reserved_tail) &&
         IsSameUuid(block.volume_uuid, uuid) && block.index == index;
}

}  // namespace filer::engine
