#include "fsal/engine/fs/keys.h"

#include <boost/endian/conversion.hpp>
#include <cstring>

#include "base/assert.h"
#include "base/endian.h"
#include "fsal/engine/fs/acl.h"

namespace filer::engine {
namespace {

constexpr std::uint8_t kValueVersion = 1;

struct InodeDisk {
  std::uint8_t version;
  std::uint8_t kind;
  le16 mode;
  le32 uid;
  le32 gid;
  le32 links;
  le64 size;
  le64 blocks;
  le64 atime_ns;
  le64 mtime_ns;
  le64 ctime_ns;
  le64 btime_ns;
  le64 change;
  le64 generation;
  le64 parent;
  le64 parent_cookie;
  le64 next_cookie;
  le64 entries;
  le64 acl;
  le32 device_major;
  le32 device_minor;
  std::uint8_t verifier[8];
  std::uint8_t has_verifier;
  std::uint8_t flags;  // kInheritsProjectFlag
  le32 project;
  le16 symlink_bytes;  // that follow
};
static_assert(DiskStruct<InodeDisk> && sizeof(InodeDisk) == 144);
constexpr std::uint8_t kInheritsProjectFlag = 1;

struct ExtentDisk {
  std::uint8_t version;
  std::uint8_t flags;  // kUnwrittenFlag
  le16 reserved;       // zero
  le32 length;
  le64 physical;
  le64 birth;
};
static_assert(DiskStruct<ExtentDisk> && sizeof(ExtentDisk) == 24);
constexpr std::uint8_t kUnwrittenFlag = 1;

struct AclDisk {
  std::uint8_t version;
  std::uint8_t kind;
  le16 access_count;   // POSIX
  le16 default_count;  // POSIX
  le16 count;          // NFSv4
  le64 references;
};
static_assert(DiskStruct<AclDisk> && sizeof(AclDisk) == 16);
struct PosixAceDisk {
  le16 tag;
  le16 permissions;
  le32 id;
};
static_assert(DiskStruct<PosixAceDisk> && sizeof(PosixAceDisk) == 8);
struct Nfs4AceDisk {
  std::uint8_t type;
  std::uint8_t who;
  le16 flags;
  le32 mask;
  le32 id;
};
static_assert(DiskStruct<Nfs4AceDisk> && sizeof(Nfs4AceDisk) == 12);
// chmod makes at most two of one, and adds five.
constexpr std::size_t kStoredNfs4AcesMax = 2 * kNfs4AcesMax + 5;
static_assert(sizeof(AclDisk) + kStoredNfs4AcesMax * sizeof(Nfs4AceDisk) < 128 * 1024);
static_assert(sizeof(AclDisk) + 2 * kPosixAcesMax * sizeof(PosixAceDisk) < 128 * 1024);

bool IsAclId(std::uint64_t id) {
  return id == 0 || AclKindOf(id) == AclKind::kPosix || AclKindOf(id) == AclKind::kNfs4;
}

void AppendBig64(std::string& key, std::uint64_t value) {
  char bytes[8];
  boost::endian::store_big_u64(reinterpret_cast<unsigned char*>(bytes), value);
  key.append(bytes, 8);
}

std::string Key(char letter, std::uint64_t first) {
  std::string key;
  key.reserve(32);
  key.push_back(letter);
  AppendBig64(key, first);
  return key;
}

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

bool IsKind(std::uint8_t kind) {
  return kind >= static_cast<std::uint8_t>(NodeKind::kFile) &&
         kind <= static_cast<std::uint8_t>(NodeKind::kSocket);
}

std::uint64_t Load64(std::string_view bytes, std::size_t at) {
  return boost::endian::load_little_u64(reinterpret_cast<const unsigned char*>(bytes.data() + at));
}

void AppendLittle64(std::string& bytes, std::uint64_t value) {
  const le64 word = value;
  bytes.append(BytesOf(word));
}

}  // namespace

std::string InodeKey(std::uint64_t inode) { return Key('I', inode); }
std::string EntryKey(std::uint64_t directory, std::uint64_t cookie) {
  std::string key = Key('D', directory);
  AppendBig64(key, cookie);
  return key;
}
std::string NameKey(std::uint64_t directory, std::uint64_t hash, std::uint32_t ordinal) {
  std::string key = Key('N', directory);
  AppendBig64(key, hash);
  const be32 big = ordinal;
  key.append(BytesOf(big));
  return key;
}
std::string ParentKey(std::uint64_t child, std::uint64_t parent, std::uint64_t cookie) {
  std::string key = Key('P', child);
  AppendBig64(key, parent);
  AppendBig64(key, cookie);
  return key;
}
std::string ExtentKey(std::uint64_t inode, std::uint64_t file_block) {
  std::string key = Key('E', inode);
  AppendBig64(key, file_block);
  return key;
}
std::string XattrKey(std::uint64_t inode, std::string_view name) {
  std::string key = Key('X', inode);
  key.append(name);
  return key;
}
std::string AclKey(std::uint64_t id) { return Key('A', id); }
std::string OrphanKey(std::uint64_t inode) { return Key('O', inode); }
std::string TruncateKey(std::uint64_t inode) { return Key('T', inode); }
std::string CounterKey(std::string_view name) { return "C" + std::string(name); }
std::string EndOfInode(char letter, std::uint64_t inode) {
  return inode == UINT64_MAX ? EndOfLetter(letter) : Key(letter, inode + 1);
}
std::string StartOfLetter(char letter) { return std::string(1, letter); }
std::string EndOfLetter(char letter) { return std::string(1, static_cast<char>(letter + 1)); }

Result<std::uint64_t> KeyInteger(std::string_view key, std::size_t index) {
  const std::size_t at = 1 + index * 8;
  if (key.size() < at + 8) return Error(Errc::kCorrupt, "key too short");
  return boost::endian::load_big_u64(reinterpret_cast<const unsigned char*>(key.data() + at));
}

std::string EncodeInode(const InodeRecord& record) {
  InodeDisk disk{};
  disk.version = kValueVersion;
  disk.kind = static_cast<std::uint8_t>(record.kind);
  disk.mode = static_cast<std::uint16_t>(record.mode);
  disk.uid = record.uid;
  disk.gid = record.gid;
  disk.links = record.links;
  disk.size = record.size;
  disk.blocks = record.blocks;
  disk.atime_ns = static_cast<std::uint64_t>(record.atime_ns);
  disk.mtime_ns = static_cast<std::uint64_t>(record.mtime_ns);
  disk.ctime_ns = static_cast<std::uint64_t>(record.ctime_ns);
  disk.btime_ns = static_cast<std::uint64_t>(record.btime_ns);
  disk.change = record.change;
  disk.generation = record.generation;
  disk.parent = record.parent;
  disk.parent_cookie = record.parent_cookie;
  disk.next_cookie = record.next_cookie;
  disk.entries = record.entries;
  disk.acl = record.acl;
  disk.device_major = record.device_major;
  disk.device_minor = record.device_minor;
  std::memcpy(disk.verifier, record.verifier.data(), sizeof(disk.verifier));
  disk.has_verifier = record.has_verifier ? 1 : 0;
  disk.flags = record.inherits_project ? kInheritsProjectFlag : 0;
  disk.project = record.project;
  FILER_ASSERT(record.symlink.size() <= kSymlinkBytesMax);
  disk.symlink_bytes = static_cast<std::uint16_t>(record.symlink.size());
  std::string bytes(BytesOf(disk));
  bytes.append(record.symlink);
  return bytes;
}

Result<InodeRecord> DecodeInode(std::string_view bytes) {
  InodeDisk disk;
  if (bytes.size() < sizeof(disk)) return Error(Errc::kCorrupt, "inode record too short");
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  const bool is_sound = disk.version == kValueVersion && IsKind(disk.kind) && disk.mode <= 07777 &&
                        disk.size <= kFileBytesMax && disk.has_verifier <= 1 &&
                        disk.symlink_bytes <= kSymlinkBytesMax &&
                        (disk.flags & ~kInheritsProjectFlag) == 0 && IsAclId(disk.acl) &&
                        bytes.size() == sizeof(disk) + disk.symlink_bytes;
  if (!is_sound) return Error(Errc::kCorrupt, "inode record does not decode");
  InodeRecord record;
  record.kind = static_cast<NodeKind>(disk.kind);
  record.mode = disk.mode;
  record.uid = disk.uid;
  record.gid = disk.gid;
  record.links = disk.links;
  record.size = disk.size;
  record.blocks = disk.blocks;
  record.atime_ns = static_cast<std::int64_t>(disk.atime_ns);
  record.mtime_ns = static_cast<std::int64_t>(disk.mtime_ns);
  record.ctime_ns = static_cast<std::int64_t>(disk.ctime_ns);
  record.btime_ns = static_cast<std::int64_t>(disk.btime_ns);
  record.change = disk.change;
  record.generation = disk.generation;
  record.parent = disk.parent;
  record.parent_cookie = disk.parent_cookie;
  record.next_cookie = disk.next_cookie;
  record.entries = disk.entries;
  record.acl = disk.acl;
  record.device_major = disk.device_major;
  record.device_minor = disk.device_minor;
  std::memcpy(record.verifier.data(), disk.verifier, sizeof(disk.verifier));
  record.has_verifier = disk.has_verifier != 0;
  record.inherits_project = (disk.flags & kInheritsProjectFlag) != 0;
  record.project = disk.project;
  record.symlink.assign(bytes.substr(sizeof(disk)));
  return record;
}

std::string EncodeEntry(const EntryValue& entry) {
  std::string bytes;
  bytes.reserve(9 + entry.name.size());
  AppendLittle64(bytes, entry.child);
  bytes.push_back(static_cast<char>(entry.kind));
  bytes.append(entry.name);
  return bytes;
}

Result<EntryValue> DecodeEntry(std::string_view bytes) {
  if (bytes.size() < 10 || !IsKind(static_cast<std::uint8_t>(bytes[8]))) {
    return Error(Errc::kCorrupt, "directory entry does not decode");
  }
  EntryValue entry;
  entry.child = Load64(bytes, 0);
  entry.kind = static_cast<NodeKind>(bytes[8]);
  entry.name.assign(bytes.substr(9));
  if (!ValidateName(entry.name).has_value()) {
    return Error(Errc::kCorrupt, "directory entry has an impossible name");
  }
  return entry;
}

std::string EncodeName(const NameValue& name) {
  std::string bytes;
  AppendLittle64(bytes, name.cookie);
  bytes.append(EncodeEntry(name.entry));
  return bytes;
}

Result<NameValue> DecodeName(std::string_view bytes) {
  if (bytes.size() < 8) return Error(Errc::kCorrupt, "name does not decode");
  NameValue name;
  name.cookie = Load64(bytes, 0);
  name.entry = FILER_TRY(DecodeEntry(bytes.substr(8)));
  return name;
}

std::string EncodeExtent(const Extent& extent) {
  FILER_ASSERT(extent.is_unwritten ? extent.checksums.empty()
                                   : extent.checksums.size() == extent.length);
  ExtentDisk disk{};
  disk.version = kValueVersion;
  disk.flags = extent.is_unwritten ? kUnwrittenFlag : 0;
  disk.length = extent.length;
  disk.physical = extent.physical;
  disk.birth = extent.birth;
  std::string bytes(BytesOf(disk));
  bytes.reserve(sizeof(disk) + extent.checksums.size() * 4);
  for (const std::uint32_t checksum : extent.checksums) {
    const le32 word = checksum;
    bytes.append(BytesOf(word));
  }
  return bytes;
}

Result<Extent> DecodeExtent(std::string_view key, std::string_view bytes) {
  ExtentDisk disk;
  if (bytes.size() < sizeof(disk)) return Error(Errc::kCorrupt, "extent too short");
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  Extent extent;
  extent.file_block = FILER_TRY(KeyInteger(key, 1));
  extent.physical = disk.physical;
  extent.length = disk.length;
  extent.birth = disk.birth;
  extent.is_unwritten = (disk.flags & kUnwrittenFlag) != 0;
  const std::uint32_t length_max =
      extent.is_unwritten ? kUnwrittenExtentBlocksMax : kExtentBlocksMax;
  const std::size_t checksum_count = extent.is_unwritten ? 0 : extent.length;
  const bool is_sound =
      key.size() == 17 && disk.version == kValueVersion && (disk.flags & ~kUnwrittenFlag) == 0 &&
      disk.reserved == 0 && extent.length >= 1 && extent.length <= length_max &&
      extent.file_block < kFileBytesMax / 4096 && extent.end() <= kFileBytesMax / 4096 &&
      extent.physical <= UINT64_MAX - extent.length &&
      bytes.size() == sizeof(disk) + checksum_count * 4;
  if (!is_sound) return Error(Errc::kCorrupt, "extent does not decode");
  extent.checksums.resize(checksum_count);
  for (std::size_t index = 0; index < checksum_count; ++index) {
    extent.checksums[index] = boost::endian::load_little_u32(
        reinterpret_cast<const unsigned char*>(bytes.data() + sizeof(disk) + index * 4));
  }
  return extent;
}

std::string EncodeAcl(const AclRecord& record) {
  const Acl& acl = record.acl;
  AclDisk disk{};
  disk.version = kValueVersion;
  disk.kind = static_cast<std::uint8_t>(acl.kind);
  disk.access_count = static_cast<std::uint16_t>(acl.access.size());
  disk.default_count = static_cast<std::uint16_t>(acl.default_entries.size());
  disk.count = static_cast<std::uint16_t>(acl.aces.size());
  disk.references = record.references;
  std::string bytes(BytesOf(disk));
  for (const auto* entries : {&acl.access, &acl.default_entries}) {
    for (const PosixAce& entry : *entries) {
      bytes.append(BytesOf(
          PosixAceDisk{static_cast<std::uint16_t>(entry.tag), entry.permissions, entry.id}));
    }
  }
  for (const Nfs4Ace& ace : acl.aces) {
    bytes.append(
        BytesOf(Nfs4AceDisk{static_cast<std::uint8_t>(ace.type), static_cast<std::uint8_t>(ace.who),
                            static_cast<std::uint16_t>(ace.flags), ace.mask, ace.id}));
  }
  return bytes;
}

Result<AclRecord> DecodeAcl(std::string_view bytes) {
  AclDisk disk;
  const Error damaged(Errc::kCorrupt, "an ACL does not decode");
  if (bytes.size() < sizeof(disk)) return damaged;
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  bytes.remove_prefix(sizeof(disk));
  const std::size_t posix_count = std::size_t{disk.access_count} + disk.default_count;
  const bool is_sound =
      disk.version == kValueVersion && disk.kind != 0 && IsAclId(disk.kind) && disk.kind < 4 &&
      disk.references > 0 && disk.access_count <= kPosixAcesMax &&
      disk.default_count <= kPosixAcesMax && disk.count <= kStoredNfs4AcesMax &&
      bytes.size() == posix_count * sizeof(PosixAceDisk) + disk.count * sizeof(Nfs4AceDisk);
  if (!is_sound) return damaged;
  AclRecord record;
  record.references = disk.references;
  record.acl.kind = static_cast<AclKind>(disk.kind);
  for (std::size_t index = 0; index < posix_count; ++index) {
    PosixAceDisk entry;
    std::memcpy(&entry, bytes.data(), sizeof(entry));
    bytes.remove_prefix(sizeof(entry));
    auto& entries = index < disk.access_count ? record.acl.access : record.acl.default_entries;
    entries.push_back({static_cast<PosixTag>(entry.tag.value()), entry.permissions, entry.id});
  }
  for (; !bytes.empty(); bytes.remove_prefix(sizeof(Nfs4AceDisk))) {
    Nfs4AceDisk ace;
    std::memcpy(&ace, bytes.data(), sizeof(ace));
    record.acl.aces.push_back({static_cast<AceType>(ace.type), static_cast<AceWho>(ace.who),
                               ace.flags, ace.mask, ace.id});
  }
  if (!ValidateStoredAcl(record.acl).has_value()) return damaged;
  return record;
}

std::uint64_t AclIdOf(const SipKey& key, const Acl& acl) {
  const std::string bytes = EncodeAcl({0, acl});
  const std::uint64_t hash =
      SipHash24(key, {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  return (hash & ~std::uint64_t{3}) | static_cast<std::uint64_t>(acl.kind);
}

std::string EncodeCounter(std::uint64_t value) {
  std::string bytes;
  AppendLittle64(bytes, value);
  return bytes;
}

Result<std::uint64_t> DecodeCounter(std::string_view bytes) {
  if (bytes.size() != 8) return Error(Errc::kCorrupt, "counter does not decode");
  return Load64(bytes, 0);
}

std::uint64_t NameHash(const SipKey& key, std::string_view name) noexcept {
  return SipHash24(key, {reinterpret_cast<const std::uint8_t*>(name.data()), name.size()});
}

Result<void> ValidateName(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return Errc::kInvalidName;
  if (name.size() > kNameBytesMax) return Errc::kNameTooLong;
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return Errc::kInvalidName;
  }
  return Ok();
}

}  // namespace filer::engine
