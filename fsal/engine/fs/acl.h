// acl.h: what access control lists mean: decisions, what mode and list do to each other, what is
// inherited, and the wire format of POSIX lists. Pure functions; lists given to them were
// validated, when they were set or when they were decoded.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

bool IsInGroup(const Caller& caller, std::uint32_t gid);

// What of a node decides beside its list.
struct AclSubject {
  NodeKind kind = NodeKind::kFile;
  std::uint32_t mode = 0, uid = 0, gid = 0;
};

// May the caller do all that `mask` (AceMask) says? uid 0 may do everything but execute a file that
// nobody may execute; owners may always read and change list and attributes. Of kind kNone: the
// mode decides.
bool IsAllowed(const Caller& caller, const AclSubject& subject, const Acl& acl, std::uint32_t mask);
// May he take this name out of this directory (sticky bits apart)? RFC 7530, 6.2.1.3.2.
struct AclHolder {
  AclSubject subject;
  const Acl& acl;
};
bool MayRemove(const Caller& caller, const AclHolder& directory, const AclHolder& child);

// Errors: kInvalidArgument (order, doubles, a mask that is missing, unknown bits), kTooBig,
// kAccessDenied (default entries on what is no directory, as Linux says it), kNotSupported (kinds
// of nodes without lists).
Result<void> ValidateAcl(const Acl& acl, NodeKind kind);
// The same of what a volume holds: there is a list, and chmod may have made it longer.
Result<void> ValidateStoredAcl(const Acl& acl);

// The mode that goes with the list: the nine low bits are the list's (RFC 7530, 6.3.2; the group's
// bits of a POSIX list with a mask are the mask), the others those of `mode`.
std::uint32_t ModeOf(const Acl& acl, std::uint32_t mode);
// The list after chmod (RFC 7530, 6.4.1.1; POSIX: owner, mask or group, others).
Acl WithMode(const Acl& acl, std::uint32_t mode);
// Of kind kNone if it says nothing that `mode` does not say; POSIX access entries that say nothing
// are dropped.
Acl Simplified(Acl acl, std::uint32_t mode);

struct Inherited {
  Acl acl;
  std::uint32_t mode = 0;
};
// What a new node begins with in a directory that has this list. `mode` is what the caller wants,
// if he said; without anything to inherit `umask` is taken from it.
Inherited Inherit(const Acl& directory, NodeKind kind, std::optional<std::uint32_t> mode,
                  std::uint32_t umask);

// system.posix_acl_access and system.posix_acl_default. Errors: kInvalidArgument. No entries: an
// empty list.
Result<std::vector<PosixAce>> DecodePosixXattr(std::string_view bytes);
std::string EncodePosixXattr(const std::vector<PosixAce>& entries);

// The parts for one kind, for the functions above.
namespace posix_acl {
Result<void> Validate(const std::vector<PosixAce>& entries);
bool IsAllowed(const Caller& caller, const AclSubject& subject,
               const std::vector<PosixAce>& entries, std::uint32_t wanted_rwx);
std::uint32_t ModeOf(const std::vector<PosixAce>& entries, std::uint32_t mode);
std::vector<PosixAce> WithMode(std::vector<PosixAce> entries, std::uint32_t mode);
}  // namespace posix_acl
namespace nfs4_acl {
Result<void> Validate(const std::vector<Nfs4Ace>& aces);
bool IsAllowed(const Caller& caller, const AclSubject& subject, const std::vector<Nfs4Ace>& aces,
               std::uint32_t mask);
std::uint32_t ModeOf(const std::vector<Nfs4Ace>& aces, std::uint32_t mode);
std::vector<Nfs4Ace> WithMode(const std::vector<Nfs4Ace>& aces, std::uint32_t mode);
std::vector<Nfs4Ace> Inherit(const std::vector<Nfs4Ace>& directory, bool is_directory);
bool IsMode(const std::vector<Nfs4Ace>& aces, std::uint32_t mode);
bool IsDecided(const Caller& caller, const AclSubject& subject, const std::vector<Nfs4Ace>& aces,
               std::uint32_t mask);
bool MayAnybodyExecute(const std::vector<Nfs4Ace>& aces);
}  // namespace nfs4_acl

}  // namespace filer::engine
