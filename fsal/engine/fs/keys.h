// keys.h: what the file system stores in the key-value core: keys (a letter, then big-endian
// integers) and values (little-endian, versioned). Every decoder takes hostile bytes and returns
// kCorrupt instead of trusting them.
//
//   I ino                     InodeRecord, short symlink inline
//   D directory cookie        child, kind, name
//   N directory hash ordinal  cookie, child, kind, exact name
//   P child parent cookie     empty; only while the file has more than one link
//   E ino block               Extent with one CRC-32C per block
//   X ino name                value of an extended attribute
//   A id                      how many inodes have this ACL, and its entries
//   O ino                     empty: unlinked, waits to be reclaimed
//   T ino                     a truncation is being finished: extents past the size are to be
//   removed C name                    a counter
//   Q ...                     quotas: quota_keys.h
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/fs/siphash.h"

namespace filer::engine {

inline constexpr std::uint32_t kExtentBlocksMax = 256;             // with data: 1 MiB
inline constexpr std::uint32_t kUnwrittenExtentBlocksMax = 65536;  // without: 256 MiB
inline constexpr std::uint64_t kFirstFreeInode = 16;
inline constexpr std::string_view kInodeCounter = "next_inode";

struct InodeRecord {
  NodeKind kind = NodeKind::kFile;
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t links = 0;
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;  // referenced by extents
  std::int64_t atime_ns = 0, mtime_ns = 0, ctime_ns = 0, btime_ns = 0;
  std::uint64_t change = 0;
  std::uint64_t generation = 0;
  // Where its name is: always for a directory; of a file while it has one link (P keys tell
  // otherwise).
  std::uint64_t parent = 0;
  std::uint64_t parent_cookie = 0;
  std::uint64_t next_cookie = 0;  // directories: above every cookie ever issued
  std::uint64_t entries = 0;      // directories
  std::uint64_t acl = 0;          // id of the A key; 0: none
  std::uint32_t device_major = 0, device_minor = 0;
  std::uint32_t project = 0;      // 0: none
  bool inherits_project = false;  // directories: what is made inside has its project
  bool has_verifier = false;
  std::array<std::uint8_t, 8> verifier{};  // of an exclusive create
  std::string symlink;
};

// The id of an ACL is made of the hash of what it says, with its kind in the two lowest bits;
// should that be taken by another one, of a free id behind it.
inline constexpr std::uint64_t kAclIdStep = 4;
inline constexpr std::uint64_t kAclIdsTried = 16;
inline AclKind AclKindOf(std::uint64_t id) { return static_cast<AclKind>(id & 3); }

struct AclRecord {  // of A
  std::uint64_t references = 0;
  Acl acl;
};

struct EntryValue {  // of D
  std::uint64_t child = 0;
  NodeKind kind = NodeKind::kFile;
  std::string name;
};

struct NameValue {  // of N
  std::uint64_t cookie = 0;
  EntryValue entry;
};

struct Extent {
  std::uint64_t file_block = 0;
  std::uint64_t physical = 0;  // block of the device
  std::uint32_t length = 0;    // blocks
  std::uint64_t birth = 0;     // epoch (Store::OpenEpoch) of this reference, or an older one
  bool is_unwritten = false;   // allocated, reads as zeroes, has no checksums
  std::vector<std::uint32_t> checksums;

  std::uint64_t end() const { return file_block + length; }
};

std::string InodeKey(std::uint64_t inode);
std::string EntryKey(std::uint64_t directory, std::uint64_t cookie);
std::string NameKey(std::uint64_t directory, std::uint64_t hash, std::uint32_t ordinal);
std::string ParentKey(std::uint64_t child, std::uint64_t parent, std::uint64_t cookie);
std::string ExtentKey(std::uint64_t inode, std::uint64_t file_block);
std::string XattrKey(std::uint64_t inode, std::string_view name);
std::string AclKey(std::uint64_t id);
std::string OrphanKey(std::uint64_t inode);
std::string TruncateKey(std::uint64_t inode);
std::string CounterKey(std::string_view name);
// First key after all keys that start with `letter` and `inode` (empty never: letters are below
// 0xff).
std::string EndOfInode(char letter, std::uint64_t inode);
std::string StartOfLetter(char letter);
std::string EndOfLetter(char letter);

// The n-th big-endian integer after the letter; kCorrupt when the key is too short.
Result<std::uint64_t> KeyInteger(std::string_view key, std::size_t index);

std::string EncodeInode(const InodeRecord& record);
Result<InodeRecord> DecodeInode(std::string_view bytes);
std::string EncodeEntry(const EntryValue& entry);
Result<EntryValue> DecodeEntry(std::string_view bytes);
std::string EncodeName(const NameValue& name);
Result<NameValue> DecodeName(std::string_view bytes);
std::string EncodeExtent(const Extent& extent);
// `key` gives the file block. Lengths are checked; whether the blocks lie inside the volume is the
// caller's question.
Result<Extent> DecodeExtent(std::string_view key, std::string_view bytes);
std::string EncodeAcl(const AclRecord& record);
// Lists that could not have been set are refused, too; whether the kind of node may have them is
// the caller's question.
Result<AclRecord> DecodeAcl(std::string_view bytes);
// The first id to try. Of the entries only, not of the references; never 0.
std::uint64_t AclIdOf(const SipKey& key, const Acl& acl);
std::string EncodeCounter(std::uint64_t value);
Result<std::uint64_t> DecodeCounter(std::string_view bytes);

std::uint64_t NameHash(const SipKey& key, std::string_view name) noexcept;

// Ok when it may be a name: kInvalidName ("", ".", "..", with '/' or NUL), kNameTooLong.
Result<void> ValidateName(std::string_view name);

}  // namespace filer::engine
