// acl_posix.cc: POSIX access control lists (1003.1e draft 17, as Linux has them).
#include <algorithm>
#include <cstring>
#include <set>

#include "base/endian.h"
#include "fsal/engine/fs/acl.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kWireVersion = 2;
constexpr std::uint32_t kNoId = UINT32_MAX;

struct WireHeader {
  le32 version;
};
struct WireEntry {
  le16 tag;
  le16 permissions;
  le32 id;
};
static_assert(DiskStruct<WireEntry> && sizeof(WireEntry) == 8 && sizeof(WireHeader) == 4);

bool IsNamed(PosixTag tag) { return tag == PosixTag::kNamedUser || tag == PosixTag::kNamedGroup; }

bool IsTag(std::uint16_t tag) {
  return tag != 0 && tag <= 0x20 && (tag & (tag - 1)) == 0;  // one bit
}

template <typename Entries>
auto* FindTag(Entries& entries, PosixTag tag) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const PosixAce& entry) { return entry.tag == tag; });
  return found == entries.end() ? nullptr : &*found;
}

// The entry that stands for the group's bits of the mode.
template <typename Entries>
auto* GroupClass(Entries& entries) {
  auto* mask = FindTag(entries, PosixTag::kMask);
  return mask != nullptr ? mask : FindTag(entries, PosixTag::kGroup);
}

}  // namespace

Result<std::vector<PosixAce>> DecodePosixXattr(std::string_view bytes) {
  WireHeader header;
  if (bytes.size() < sizeof(header)) return Errc::kInvalidArgument;
  std::memcpy(&header, bytes.data(), sizeof(header));
  bytes.remove_prefix(sizeof(header));
  if (header.version != kWireVersion || bytes.size() % sizeof(WireEntry) != 0) {
    return Errc::kInvalidArgument;
  }
  if (bytes.size() / sizeof(WireEntry) > kPosixAcesMax) return Errc::kTooBig;
  std::vector<PosixAce> entries;
  for (; !bytes.empty(); bytes.remove_prefix(sizeof(WireEntry))) {
    WireEntry wire;
    std::memcpy(&wire, bytes.data(), sizeof(wire));
    if (!IsTag(wire.tag)) return Errc::kInvalidArgument;
    const auto tag = static_cast<PosixTag>(wire.tag.value());
    entries.push_back({tag, wire.permissions, IsNamed(tag) ? wire.id.value() : 0});
  }
  return entries;
}

std::string EncodePosixXattr(const std::vector<PosixAce>& entries) {
  const WireHeader header{kWireVersion};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  for (const PosixAce& entry : entries) {
    const WireEntry wire{static_cast<std::uint16_t>(entry.tag), entry.permissions,
                         IsNamed(entry.tag) ? entry.id : kNoId};
    bytes.append(reinterpret_cast<const char*>(&wire), sizeof(wire));
  }
  return bytes;
}

namespace posix_acl {

// In the order of the tags; owner, group and others once each; a mask if anybody is named.
Result<void> Validate(const std::vector<PosixAce>& entries) {
  if (entries.size() > kPosixAcesMax) return Errc::kTooBig;
  std::uint16_t last = 0;
  std::uint32_t seen = 0;
  std::set<std::uint32_t> ids;  // of the tag that goes on
  for (const PosixAce& entry : entries) {
    const auto tag = static_cast<std::uint16_t>(entry.tag);
    if (!IsTag(tag) || tag < last || entry.permissions > 7) return Errc::kInvalidArgument;
    if (tag != last) ids.clear();
    if (tag == last && !IsNamed(entry.tag)) return Errc::kInvalidArgument;
    if (IsNamed(entry.tag) ? entry.id == kNoId : entry.id != 0) return Errc::kInvalidArgument;
    if (!ids.insert(entry.id).second) return Errc::kInvalidArgument;
    last = tag;
    seen |= tag;
  }
  constexpr std::uint32_t kNeeded = 0x01 | 0x04 | 0x20, kNamedTags = 0x02 | 0x08, kMaskTag = 0x10;
  if ((seen & kNeeded) != kNeeded) return Errc::kInvalidArgument;
  if ((seen & kNamedTags) != 0 && (seen & kMaskTag) == 0) return Errc::kInvalidArgument;
  return Ok();
}

bool IsAllowed(const Caller& caller, const AclSubject& subject,
               const std::vector<PosixAce>& entries, std::uint32_t wanted_rwx) {
  const PosixAce* mask_entry = FindTag(entries, PosixTag::kMask);
  const std::uint32_t mask = mask_entry == nullptr ? 7 : mask_entry->permissions;
  const auto grants = [&](const PosixAce& entry, std::uint32_t masked_by) {
    return (wanted_rwx & ~(entry.permissions & masked_by)) == 0;
  };
  bool is_in_a_group = false;
  for (const PosixAce& entry : entries) {
    switch (entry.tag) {
      case PosixTag::kOwner:
        if (caller.uid == subject.uid) return grants(entry, 7);
        break;
      case PosixTag::kNamedUser:
        if (caller.uid == entry.id) return grants(entry, mask);
        break;
      case PosixTag::kGroup:
      case PosixTag::kNamedGroup:
        if (!IsInGroup(caller, entry.tag == PosixTag::kGroup ? subject.gid : entry.id)) break;
        is_in_a_group = true;  // one of the groups must grant all that is asked
        if (grants(entry, mask)) return true;
        break;
      case PosixTag::kMask:
        break;
      case PosixTag::kOther:
        return !is_in_a_group && grants(entry, 7);
    }
  }
  return false;
}

std::uint32_t ModeOf(const std::vector<PosixAce>& entries, std::uint32_t mode) {
  if (entries.empty()) return mode;
  const std::uint32_t bits = static_cast<std::uint32_t>(
      FindTag(entries, PosixTag::kOwner)->permissions << 6 | GroupClass(entries)->permissions << 3 |
      FindTag(entries, PosixTag::kOther)->permissions);
  return (mode & ~0777U) | bits;
}

std::vector<PosixAce> WithMode(std::vector<PosixAce> entries, std::uint32_t mode) {
  if (entries.empty()) return entries;
  FindTag(entries, PosixTag::kOwner)->permissions = mode >> 6 & 7;
  GroupClass(entries)->permissions = mode >> 3 & 7;
  FindTag(entries, PosixTag::kOther)->permissions = mode & 7;
  return entries;
}

}  // namespace posix_acl

}  // namespace filer::engine
