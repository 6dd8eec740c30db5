#include "fsal/engine/format/uberblock.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "fsal/engine/format/checkpoint_chunk.h"
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
  if (root.version == 0 || root.is_clean > 1)
    return Corrupt(at_block, "version or flag is not valid");
  if (root.own_block != at_block) return Corrupt(at_block, "belongs to another block");
  if (!IsZero(root.reserved)) return Corrupt(at_block, "reserved space is not zero");
  if (root.epoch == 0 || root.epoch > kCounterMax || root.mount_epoch > kCounterMax ||
      root.checkpoint_lsn >= kLsnMax || root.log_head_position > kPositionMax) {
    return Corrupt(at_block, "a counter is out of range");
  }
  const auto chunks_max = layout.area_block_count * kMetaBlockBytes / kCheckpointChunkBytes;
  if (root.checkpoint_id > root.epoch || root.checkpoint_area > 1 ||
      root.checkpoint_chunks > chunks_max ||
      root.checkpoint_chunks != CheckpointChunksOf(root.checkpoint_bytes)) {
    return Corrupt(at_block, "checkpoint does not fit its area");
  }
  return root;
}

}  // namespace filer::engine
