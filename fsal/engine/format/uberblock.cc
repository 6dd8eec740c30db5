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
      root.checkpoint_lsn >= kLsnMax || root.log_head_position > kPositionMax) {
    return Corrupt(at_block, "a counter is out of range");
  }
  if (root.tree_epoch > kCounterMax || root.node_count > layout.node_block_count / kNodeBlocks ||
      root.table_piece_count > kTablePiecesMax || root.table_piece_count > root.node_count ||
      (root.table_piece_count == 0) != (root.tree_epoch == 0)) {
    return Corrupt(at_block, "the trees do not fit the node region");
  }
  const auto node_end = layout.node_first_block + layout.node_block_count;
  for (std::uint32_t at = 0; at < kTablePiecesMax; ++at) {
    const auto& piece = root.table[at];
    const bool is_used = at < root.table_piece_count;
    if (is_used != (piece.block != 0) || piece.birth_epoch > root.tree_epoch ||
        (is_used &&
         (piece.block < layout.node_first_block || piece.block > node_end - kNodeBlocks))) {
      return Corrupt(at_block, "the table of trees does not fit the node region");
    }
  }
  return root;
}

}  // namespace filer::engine
