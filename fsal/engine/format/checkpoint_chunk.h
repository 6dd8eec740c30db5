// checkpoint_chunk.h: a checkpoint is a stream of records (record.h) in key order, cut into chunks
// of at most 1 MiB that lie one behind another in a checkpoint area. The last chunk is padded with
// zeroes to 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"

namespace filer::engine {

inline constexpr std::uint64_t kChunkMagic = 0x4B4E48434C54454DULL;
inline constexpr std::uint64_t kCheckpointChunkBytes = 1 << 20;

struct ChunkHeader {
  le64 magic;    // kChunkMagic
  le32 version;  // kFormatVersion
  le32 payload_bytes;
  std::uint8_t volume_uuid[16];
  le64 checkpoint_id;
  le64 index;                // in the checkpoint, from 0
  le32 payload_crc32c;       // of the payload and its padding
  std::uint8_t reserved[8];  // zero
  le32 crc32c;               // of every byte above
};
static_assert(DiskStruct<ChunkHeader>);
static_assert(sizeof(ChunkHeader) == 64 && offsetof(ChunkHeader, crc32c) == 60);

inline constexpr std::uint64_t kChunkPayloadBytesMax = kCheckpointChunkBytes - sizeof(ChunkHeader);

// Chunks that a stream of `stream_bytes` takes. Never overflows.
constexpr std::uint64_t CheckpointChunksOf(std::uint64_t stream_bytes) noexcept {
  return stream_bytes / kChunkPayloadBytesMax + (stream_bytes % kChunkPayloadBytesMax != 0);
}

// Seals the chunk in `chunk`: header in front, `payload_bytes` of payload behind it already in
// place; pads. Returns the bytes to write.
std::uint64_t SealChunk(std::span<std::byte> chunk, const VolumeUuid& uuid,
                        std::uint64_t checkpoint_id, std::uint64_t index,
                        std::uint32_t payload_bytes) noexcept;

// The payload of the chunk in `chunk`, which must be chunk `index` of that checkpoint. Errors:
// kCorrupt.
Result<std::span<const std::byte>> DecodeChunk(std::span<const std::byte> chunk,
                                               const VolumeUuid& uuid, std::uint64_t checkpoint_id,
                                               std::uint64_t index);

}  // namespace filer::engine
