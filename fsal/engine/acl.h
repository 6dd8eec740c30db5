// acl.h: access control lists as the engine stores and obeys them, and the words of the question
// that Engine::Access answers.
//
// An inode has one kind of list at a time, or none: then its mode decides. Mode and list always say
// the same (RFC 7530, 6.4; POSIX 1003.1e draft 17): whoever sets one changes the other with it.
#pragma once

#include <cstdint>
#include <vector>

namespace filer::engine {

enum class AclKind : std::uint8_t { kNone = 0, kPosix = 1, kNfs4 = 2 };

// Rights, with the numbers of RFC 7530, 6.2.1.3. Also for nodes without a list: Access reads the
// mode as rights.
enum AceMask : std::uint32_t {
  kAceReadData = 0x1,    // a directory's: list it
  kAceWriteData = 0x2,   // add a file
  kAceAppendData = 0x4,  // add a directory
  kAceReadNamedAttributes = 0x8,
  kAceWriteNamedAttributes = 0x10,
  kAceExecute = 0x20,  // pass through it
  kAceDeleteChild = 0x40,
  kAceReadAttributes = 0x80,
  kAceWriteAttributes = 0x100,
  kAceDelete = 0x10000,
  kAceReadAcl = 0x20000,
  kAceWriteAcl = 0x40000,
  kAceWriteOwner = 0x80000,
  kAceSynchronize = 0x100000,
  kAceAllBits = 0x1f07ff,  // with the two of retention, which are kept and mean nothing here
};

enum AceFlags : std::uint32_t {  // RFC 7530, 6.2.1.4
  kAceFileInherit = 0x1,
  kAceDirectoryInherit = 0x2,
  kAceNoPropagate = 0x4,
  kAceInheritOnly = 0x8,
  kAceSuccessfulAccess = 0x10,
  kAceFailedAccess = 0x20,
  kAceIdentifierGroup = 0x40,  // exactly with AceWho::kNamedGroup
  kAceInherited = 0x80,        // RFC 8881: kept
  kAceAllFlags = 0xff,
};

enum class AceType : std::uint8_t { kAllow = 0, kDeny, kAudit, kAlarm };
enum class AceWho : std::uint8_t { kOwner = 1, kGroup, kEveryone, kNamedUser, kNamedGroup };

struct Nfs4Ace {
  AceType type = AceType::kAllow;
  AceWho who = AceWho::kEveryone;
  std::uint32_t flags = 0;
  std::uint32_t mask = 0;
  std::uint32_t id = 0;  // of named users and groups, else 0
  friend bool operator==(const Nfs4Ace&, const Nfs4Ace&) = default;
};

// With the numbers of Linux's attribute system.posix_acl_access, version 2.
enum class PosixTag : std::uint16_t {
  kOwner = 0x01,
  kNamedUser = 0x02,
  kGroup = 0x04,
  kNamedGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20
};
struct PosixAce {
  PosixTag tag = PosixTag::kOther;
  std::uint16_t permissions = 0;  // rwx: 4, 2, 1
  std::uint32_t id = 0;           // of named users and groups, else 0
  friend bool operator==(const PosixAce&, const PosixAce&) = default;
};

inline constexpr std::size_t kNfs4AcesMax = 4096;   // what may be set
inline constexpr std::size_t kPosixAcesMax = 4096;  // each of access and default

struct Acl {
  AclKind kind = AclKind::kNone;
  std::vector<Nfs4Ace> aces;              // kNfs4: in the order in which they are obeyed
  std::vector<PosixAce> access;           // kPosix; empty: as the mode says
  std::vector<PosixAce> default_entries;  // kPosix, directories: what is made in them begins with
  friend bool operator==(const Acl&, const Acl&) = default;
};

// What a POSIX list (and the part of the mode that is not in it) says, as NFSv4 entries: for doors
// that speak NFSv4. Each single right is answered alike; only a caller whose groups have the asked
// rights between them and none has all of them is refused by POSIX and not by these. Other kinds
// are returned as they are.
Acl ToNfs4(const Acl& acl, std::uint32_t mode, bool is_directory);

}  // namespace filer::engine
