#include "fsal/engine/format/log_group.h"

#include "base/assert.h"
#include "fsal/engine/format/label.h"

namespace filer::engine {

GroupHeader SealGroup(std::span<std::byte> group, const GroupPlace& place, std::uint64_t last_lsn,
                      std::uint64_t durable_lsn, std::uint32_t payload_bytes) noexcept {
  FILER_ASSERT(payload_bytes <= kGroupPayloadBytesMax);
  FILER_ASSERT(last_lsn >= place.first_lsn);
  const auto used = sizeof(GroupHeader) + payload_bytes;
  const auto length = GroupBytes(payload_bytes);
  FILER_ASSERT(length <= group.size());
  std::memset(group.data() + used, 0, length - used);
  GroupHeader header{};
  header.magic = kGroupMagic;
  header.version = kFormatVersion;
  header.payload_bytes = payload_bytes;
  std::copy(place.uuid.begin(), place.uuid.end(), header.volume_uuid);
  header.log_epoch = place.log_epoch;
  header.position = place.position;
  header.first_lsn = place.first_lsn;
  header.last_lsn = last_lsn;
  header.durable_lsn = durable_lsn;
  header.prev_crc32c = place.prev_crc32c;
  header.payload_crc32c = Crc32c(group.subspan(sizeof(header), length - sizeof(header)));
  Seal(header);
  StoreStruct(group, header);
  return header;
}

Result<GroupHeader> DecodeGroupHeader(std::span<const std::byte> block, const VolumeUuid& uuid,
                                      std::uint64_t log_epoch) {
  if (block.size() < sizeof(GroupHeader)) return Error(Errc::kCorrupt);
  const auto header = LoadStruct<GroupHeader>(block);
  if (header.magic != kGroupMagic || header.crc32c != ChecksumOf(header))
    return Error(Errc::kCorrupt);
  if (!IsSameUuid(header.volume_uuid, uuid) || header.log_epoch != log_epoch) {
    return Error(Errc::kCorrupt);  // of another volume, or stale
  }
  if (header.version != kFormatVersion || !IsZero(header.reserved)) return Error(Errc::kCorrupt);
  if (header.payload_bytes > kGroupPayloadBytesMax || header.first_lsn > header.last_lsn ||
      header.last_lsn > kLsnMax || header.durable_lsn >= header.first_lsn) {
    return Error(Errc::kCorrupt);
  }
  return header;
}

bool IsNextGroup(const GroupHeader& header, const GroupPlace& place) noexcept {
  return header.position == place.position && header.first_lsn == place.first_lsn &&
         header.prev_crc32c == place.prev_crc32c;
}

bool IsPayloadSound(const GroupHeader& header, std::span<const std::byte> group) noexcept {
  const auto length = GroupBytes(header.payload_bytes);
  if (group.size() < length) return false;
  return header.payload_crc32c == Crc32c(group.subspan(sizeof(header), length - sizeof(header)));
}

}  // namespace filer::engine
