#include "fsal/engine/log/log_replay.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "base/assert.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kGroupBlocksMax = kGroupBytesMax / kMetaBlockBytes;
constexpr std::uint64_t kWindowBlocks = 2 * kGroupBlocksMax;
// A durable group that is missing is followed by at most a few that were in flight with it.
constexpr std::uint64_t kSearchBlocks = 4 * kGroupBlocksMax;

// Positions of the ring through a window of memory.
class RingReader {
 public:
  RingReader(BlockDevice& device, const LogRing& ring) : device_(device), ring_(ring) {}

  // The blocks [position, position + blocks), blocks <= kGroupBlocksMax; valid until the next call.
  Result<std::span<const std::byte>> Read(std::uint64_t position, std::uint64_t blocks) {
    FILER_ASSERT(blocks <= kGroupBlocksMax);
    const auto window_blocks = window_.size() / kMetaBlockBytes;
    if (position < first_ || position + blocks > first_ + window_blocks) {
      FILER_TRY(Load(position));
    }
    return std::span<const std::byte>(window_).subspan((position - first_) * kMetaBlockBytes,
                                                       blocks * kMetaBlockBytes);
  }

 private:
  Result<void> Load(std::uint64_t position) {
    window_.clear();
    std::vector<std::byte> window(kWindowBlocks * kMetaBlockBytes);
    for (std::uint64_t done = 0; done < kWindowBlocks;) {
      const auto blocks = std::min(ring_.BlocksBeforeWrap(position + done, kWindowBlocks - done),
                                   kRequestBytesMax / kMetaBlockBytes);
      const auto part = std::span(window).subspan(done * kMetaBlockBytes, blocks * kMetaBlockBytes);
      FILER_TRY(ReadBlocking(device_, ring_.OffsetOf(position + done), part));
      done += blocks;
    }
    window_ = std::move(window);
    first_ = position;
    return Ok();
  }

  BlockDevice& device_;
  const LogRing& ring_;
  std::uint64_t first_ = 0;
  std::vector<std::byte> window_;
};

struct Group {
  GroupHeader header;
  std::span<const std::byte> bytes;
};

// The group at `position` if one verifies there. Errors: the device's.
Result<std::optional<Group>> ReadGroup(RingReader& reader, std::uint64_t position,
                                       const GroupPlace& place) {
  const auto first = FILER_TRY(reader.Read(position, 1));
  const auto header = DecodeGroupHeader(first, place.uuid, place.log_epoch);
  if (!header.has_value() || header.value().position != position) return std::optional<Group>();
  const auto blocks = GroupBytes(header.value().payload_bytes) / kMetaBlockBytes;
  const auto bytes = FILER_TRY(reader.Read(position, blocks));
  if (!IsPayloadSound(header.value(), bytes)) return std::optional<Group>();
  return std::optional<Group>(Group{header.value(), bytes});
}

// The chain ended at `next`. Errors: kCorrupt if a group behind it proves that the missing one had
// been durable.
Result<void> CheckEnd(RingReader& reader, const GroupPlace& next, std::uint64_t limit) {
  const auto end = std::min(next.position + kSearchBlocks, limit);
  for (auto position = next.position; position < end;) {
    const auto group = FILER_TRY(ReadGroup(reader, position, next));
    if (!group || group->header.first_lsn < next.first_lsn) {
      ++position;
      continue;
    }
    if (group->header.durable_lsn >= next.first_lsn) {
      return Error(
          Errc::kCorrupt,
          fmt::format("log group {} at position {}: damaged (it was durable: group {} says so); "
                      "restore the volume from a backup",
                      next.first_lsn, next.position, group->header.first_lsn.value()));
    }
    position += GroupBytes(group->header.payload_bytes) / kMetaBlockBytes;
  }
  return Ok();
}

}  // namespace

Result<ReplayEnd> ReplayLog(
    BlockDevice& device, const LogRing& ring, const GroupPlace& head,
    const std::function<Result<void>(const GroupHeader& header, std::string_view payload)>& apply) {
  FILER_ASSERT(ring.block_count >= kWindowBlocks);
  RingReader reader(device, ring);
  ReplayEnd end{head, 0};
  const auto limit = head.position + ring.block_count;
  while (end.next.position < limit) {
    const auto group = FILER_TRY(ReadGroup(reader, end.next.position, end.next));
    if (!group || !IsNextGroup(group->header, end.next)) break;
    const auto payload = group->bytes.subspan(sizeof(GroupHeader), group->header.payload_bytes);
    FILER_TRY(
        apply(group->header, {reinterpret_cast<const char*>(payload.data()), payload.size()}));
    end.next.position += GroupBytes(group->header.payload_bytes) / kMetaBlockBytes;
    end.next.first_lsn = group->header.last_lsn + 1;
    end.next.prev_crc32c = group->header.crc32c;
    ++end.group_count;
  }
  FILER_TRY(CheckEnd(reader, end.next, limit));
  return end;
}

}  // namespace filer::engine
