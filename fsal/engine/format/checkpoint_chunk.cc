#include "fsal/engine/format/checkpoint_chunk.h"

#include <fmt/format.h>

#include "base/units.h"
#include "fsal/engine/format/label.h"

namespace filer::engine {

std::uint64_t SealChunk(std::span<std::byte> chunk, const VolumeUuid& uuid,
                        std::uint64_t checkpoint_id, std::uint64_t index,
                        std::uint32_t payload_bytes) noexcept {
  FILER_ASSERT(payload_bytes <= kChunkPayloadBytesMax);
  const auto used = sizeof(ChunkHeader) + payload_bytes;
  const auto length = RoundUp(used, kMetaBlockBytes);
  FILER_ASSERT(length <= chunk.size());
  std::memset(chunk.data() + used, 0, length - used);
  ChunkHeader header{};
  header.magic = kChunkMagic;
  header.version = kFormatVersion;
  header.payload_bytes = payload_bytes;
  std::copy(uuid.begin(), uuid.end(), header.volume_uuid);
  header.checkpoint_id = checkpoint_id;
  header.index = index;
  header.payload_crc32c = Crc32c(chunk.subspan(sizeof(header), length - sizeof(header)));
  Seal(header);
  StoreStruct(chunk, header);
  return length;
}

Result<std::span<const std::byte>> DecodeChunk(std::span<const std::byte> chunk,
                                               const VolumeUuid& uuid, std::uint64_t checkpoint_id,
                                               std::uint64_t index) {
  const auto corrupt = [&](std::string_view what) {
    return Error(Errc::kCorrupt,
                 fmt::format("checkpoint {}, chunk {}: {}", checkpoint_id, index, what));
  };
  if (chunk.size() < sizeof(ChunkHeader)) return corrupt("too short");
  const auto header = LoadStruct<ChunkHeader>(chunk);
  if (header.magic != kChunkMagic) return corrupt("no magic");
  if (header.crc32c != ChecksumOf(header)) return corrupt("header checksum does not match");
  if (header.version != kFormatVersion || !IsZero(header.reserved)) {
    return corrupt("version or reserved space is not valid");
  }
  if (!IsSameUuid(header.volume_uuid, uuid) || header.checkpoint_id != checkpoint_id ||
      header.index != index) {
    return corrupt("belongs elsewhere");
  }
  const std::uint64_t used = sizeof(ChunkHeader) + std::uint64_t{header.payload_bytes};
  const auto length = RoundUp(used, kMetaBlockBytes);
  if (length > chunk.size()) return corrupt("length does not fit");
  const auto body = chunk.subspan(sizeof(header), length - sizeof(header));
  if (header.payload_crc32c != Crc32c(body)) return corrupt("payload checksum does not match");
  return body.first(header.payload_bytes);
}

}  // namespace filer::engine
