#include "fsal/engine/format/uberblock.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "fsal/engine/format/log_group.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kPositionMax = 1ULL << 56;
constexpr std::uint64_t kCounterMax = 1ULL << 62;

Error Corrupt(std::uint64_t at_block, std::string_view what) {
  return Error(Errc::kCorrupt, fmt::format("uberblock in block {}: {}", at_block, what));
}

}  // namespace

std::uint64_t UberblockBlock(const VolumeLayout& layout, std::uint32_t ring,
                             std::uint64_t epoch) noexcept {
  return layout.uberblock_first_block + ring * kUberblocksPerRing + epoch % kUberblocksPerRing;
}

Result<Uberblock> DecodeUberblock(std::span<const std::byte> bytes, const VolumeLayout& layout,
                                  const VolumeUuid& uuid, std::uint64_t at_block) {
  FILER_ASSERT(bytes.size() == sizeof(Uberblock));
  const auto root = LoadStruct<Uberblock>(bytes);
  if (root.magic != kUberblockMagic) return Error(Errc::kNotOurs);
  if (root.crc32c != ChecksumOf(root)) return Corrupt(at_block, "checksum does not match");
  if (!IsSameUuid(root.volume_uuid, uuid)) return Error(Errc::kNotOurs);
  if (root.version > kFormatVersion) {
    return Error(Errc::kNewerVersion,
                 fmt::format("uberblock in block {}: version {}, this release reads {}", at_block,
                             root.version.value(), kFormatVersion));
  }
  if (root.version != kFormatVersion || root.is_clean > 1)
    return Corrupt(at_block, "version or flag is not valid");
  if (root.own_block != at_block) return Corrupt(at_block, "belongs to another block");
  if (!IsZero(root.reserved)) return Corrupt(at_block, "reserved space is not zero");
  if (root.epoch == 0 || root.epoch > kCounterMax || root.mount_epoch > kCounterMax ||
      root.checkpoint_lsn >= kLsnMax || root.log_head_position > kPositionMax ||
      root.file_count > kCounterMax) {
    return Corrupt(at_block, "a counter is out of range");
  }
  const bool is_empty = root.root.block == 0;
  const auto node_end = layout.node_first_block + layout.node_block_count;
  if (root.tree_epoch > kCounterMax || root.root_level > kNodeLevelMax ||
      root.root.birth_epoch > root.tree_epoch ||
      root.node_count > layout.node_block_count / kNodeBlocks ||
      is_empty != (root.node_count == 0) || is_empty != (root.key_count == 0) ||
      (!is_empty &&
       (root.root.block < layout.node_first_block || root.root.block > node_end - kNodeBlocks))) {
    return Corrupt(at_block, "the tree does not fit the node region");
  }
  return root;
}

}  // namespace filer::engine
