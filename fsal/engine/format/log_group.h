// log_group.h: one write of the redo log: the records (record.h) of one or more transactions behind
// a header, padded with zeroes to 4 KiB. Groups form a chain: LSNs without a gap, the log epoch of
// the mount, and the checksum of the group before. The ring is addressed by position: blocks since
// the log epoch began; block = first + position % count, so a group may wrap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"

namespace filer::engine {

inline constexpr std::uint64_t kGroupMagic = 0x5055524747474F4CULL;
inline constexpr std::uint64_t kGroupBytesMax = 1 << 20;
inline constexpr std::uint64_t kLsnMax = 1ULL << 62;

struct GroupHeader {
  le64 magic;    // kGroupMagic
  le32 version;  // kFormatVersion
  le32 payload_bytes;
  std::uint8_t volume_uuid[16];
  le64 log_epoch;
  le64 position;  // where it was meant to go
  le64 first_lsn;
  le64 last_lsn;
  le64 durable_lsn;  // known durable when this was sealed: if a group up to here is missing, it was
                     // damaged, not torn
  le32 prev_crc32c;  // of the group before; of the head: said by the uberblock
  std::uint8_t reserved[44];  // zero
  le32 payload_crc32c;        // of the payload and its padding
  le32 crc32c;                // of every byte above
};
static_assert(DiskStruct<GroupHeader>);
static_assert(sizeof(GroupHeader) == 128 && offsetof(GroupHeader, crc32c) == 124);

inline constexpr std::uint64_t kGroupPayloadBytesMax = kGroupBytesMax - sizeof(GroupHeader);

// Bytes on disk of a group with that payload.
constexpr std::uint64_t GroupBytes(std::uint64_t payload_bytes) noexcept {
  return (sizeof(GroupHeader) + payload_bytes + kMetaBlockBytes - 1) / kMetaBlockBytes *
         kMetaBlockBytes;
}

// What a group at some place of the chain must say.
struct GroupPlace {
  VolumeUuid uuid{};
  std::uint64_t log_epoch = 0;
  std::uint64_t position = 0;
  std::uint64_t first_lsn = 0;
  std::uint32_t prev_crc32c = 0;
};

// Seals the group in `group`: `payload_bytes` of payload lie behind the header's place already;
// pads. Returns its header, whose crc32c is the next group's prev_crc32c.
GroupHeader SealGroup(std::span<std::byte> group, const GroupPlace& place, std::uint64_t last_lsn,
                      std::uint64_t durable_lsn, std::uint32_t payload_bytes) noexcept;

// The header in the first bytes of `block`, as far as it can be checked alone: magic, checksum,
// volume, epoch, length, LSN order. Errors: kCorrupt.
Result<GroupHeader> DecodeGroupHeader(std::span<const std::byte> block, const VolumeUuid& uuid,
                                      std::uint64_t log_epoch);

// True if `header` is the next link at `place`.
bool IsNextGroup(const GroupHeader& header, const GroupPlace& place) noexcept;

// True if the payload of the whole group (GroupBytes long) verifies.
bool IsPayloadSound(const GroupHeader& header, std::span<const std::byte> group) noexcept;

}  // namespace filer::engine
