#include "fsal/engine/fs/acl.h"

#include <algorithm>

namespace filer::engine {
namespace {

constexpr std::uint32_t kForReading = kAceReadData | kAceReadNamedAttributes;
constexpr std::uint32_t kForWriting =
    kAceWriteData | kAceAppendData | kAceWriteNamedAttributes | kAceDeleteChild;
constexpr std::uint32_t kOwnersOnly = kAceWriteAcl | kAceWriteAttributes;
constexpr std::uint32_t kNobodys = kAceDelete | kAceWriteOwner;  // as far as a mode can say

std::uint32_t RwxOf(std::uint32_t mask) {
  return ((mask & kForReading) != 0 ? 4U : 0U) | ((mask & kForWriting) != 0 ? 2U : 0U) |
         ((mask & kAceExecute) != 0 ? 1U : 0U);
}

bool IsAllowedByMode(const Caller& caller, const AclSubject& subject, std::uint32_t wanted_rwx) {
  std::uint32_t shift = 0;
  if (caller.uid == subject.uid) {
    shift = 6;
  } else if (IsInGroup(caller, subject.gid)) {
    shift = 3;
  }
  return (wanted_rwx & ~(subject.mode >> shift & 7)) == 0;
}

bool MayRootExecute(const AclSubject& subject, const Acl& acl) {
  if (subject.kind == NodeKind::kDirectory) return true;
  return acl.kind == AclKind::kNfs4 ? nfs4_acl::MayAnybodyExecute(acl.aces)
                                    : (subject.mode & 0111) != 0;
}

// One POSIX list as NFSv4 entries: after the entries of a person those that keep him from getting
// more as somebody else.
class Nfs4Writer {
 public:
  Nfs4Writer(std::vector<Nfs4Ace>& out, std::uint32_t flags, bool is_directory)
      : out_(out),
        flags_(flags),
        write_(kAceWriteData | kAceAppendData | (is_directory ? kAceDeleteChild : 0U)) {}

  void Write(const std::vector<PosixAce>& entries) {
    std::uint32_t mask = 7;
    for (const PosixAce& entry : entries) {
      if (entry.tag == PosixTag::kMask) mask = entry.permissions;
    }
    std::vector<Nfs4Ace> refusals;  // of groups: one group's grant counts for a member of several
    for (const PosixAce& entry : entries) {
      switch (entry.tag) {
        case PosixTag::kOwner:
          out_.push_back(Allow(AceWho::kOwner, 0, entry.permissions));
          out_.back().mask |= kOwnersOnly;
          out_.push_back(Deny(AceWho::kOwner, 0, entry.permissions));
          break;
        case PosixTag::kNamedUser:
          out_.push_back(Allow(AceWho::kNamedUser, entry.id, entry.permissions & mask));
          out_.push_back(Deny(AceWho::kNamedUser, entry.id, entry.permissions & mask));
          break;
        case PosixTag::kGroup:
          out_.push_back(Allow(AceWho::kGroup, 0, entry.permissions & mask));
          refusals.push_back(Deny(AceWho::kGroup, 0, entry.permissions & mask));
          break;
        case PosixTag::kNamedGroup:
          out_.push_back(Allow(AceWho::kNamedGroup, entry.id, entry.permissions & mask));
          refusals.push_back(Deny(AceWho::kNamedGroup, entry.id, entry.permissions & mask));
          break;
        case PosixTag::kMask:
          break;
        case PosixTag::kOther:
          out_.insert(out_.end(), refusals.begin(), refusals.end());
          out_.push_back(Allow(AceWho::kEveryone, 0, entry.permissions));
          break;
      }
    }
    std::erase_if(out_, [](const Nfs4Ace& ace) { return ace.mask == 0; });
  }

 private:
  std::uint32_t Rights(std::uint32_t rwx) const {
    return ((rwx & 4) != 0 ? kAceReadData : 0U) | ((rwx & 2) != 0 ? write_ : 0U) |
           ((rwx & 1) != 0 ? kAceExecute : 0U);
  }
  Nfs4Ace Entry(AceType type, AceWho who, std::uint32_t id, std::uint32_t mask) const {
    const std::uint32_t group = who == AceWho::kNamedGroup ? kAceIdentifierGroup : 0U;
    return {type, who, flags_ | group, mask, id};
  }
  Nfs4Ace Allow(AceWho who, std::uint32_t id, std::uint32_t rwx) const {
    constexpr std::uint32_t kAlways = kAceReadAttributes | kAceReadAcl | kAceSynchronize;
    return Entry(AceType::kAllow, who, id, Rights(rwx) | kAlways);
  }
  Nfs4Ace Deny(AceWho who, std::uint32_t id, std::uint32_t rwx) const {
    return Entry(AceType::kDeny, who, id, Rights(~rwx & 7));
  }

  std::vector<Nfs4Ace>& out_;
  const std::uint32_t flags_;
  const std::uint32_t write_;
};

std::vector<PosixAce> EntriesOfMode(std::uint32_t mode) {
  return {{PosixTag::kOwner, static_cast<std::uint16_t>(mode >> 6 & 7), 0},
          {PosixTag::kGroup, static_cast<std::uint16_t>(mode >> 3 & 7), 0},
          {PosixTag::kOther, static_cast<std::uint16_t>(mode & 7), 0}};
}

}  // namespace

bool IsInGroup(const Caller& caller, std::uint32_t gid) {
  return caller.gid == gid ||
         std::find(caller.groups.begin(), caller.groups.end(), gid) != caller.groups.end();
}

bool IsAllowed(const Caller& caller, const AclSubject& subject, const Acl& acl,
               std::uint32_t mask) {
  if (caller.uid == 0) return (mask & kAceExecute) == 0 || MayRootExecute(subject, acl);
  if (acl.kind == AclKind::kNfs4) {
    return nfs4_acl::IsAllowed(caller, subject, acl.aces, mask);
  }
  if ((mask & kNobodys) != 0) return false;
  if ((mask & kOwnersOnly) != 0 && caller.uid != subject.uid) return false;
  return acl.access.empty() ? IsAllowedByMode(caller, subject, RwxOf(mask))
                            : posix_acl::IsAllowed(caller, subject, acl.access, RwxOf(mask));
}

bool MayRemove(const Caller& caller, const AclHolder& directory, const AclHolder& child) {
  if (!IsAllowed(caller, directory.subject, directory.acl, kAceExecute)) return false;
  if (IsAllowed(caller, directory.subject, directory.acl, kAceDeleteChild)) return true;
  if (IsAllowed(caller, child.subject, child.acl, kAceDelete)) return true;
  const bool is_decided =
      nfs4_acl::IsDecided(caller, directory.subject, directory.acl.aces, kAceDeleteChild) ||
      nfs4_acl::IsDecided(caller, child.subject, child.acl.aces, kAceDelete);
  return !is_decided && IsAllowed(caller, directory.subject, directory.acl, kAceWriteData);
}

Result<void> ValidateStoredAcl(const Acl& acl) {
  if (acl.kind == AclKind::kNfs4) {
    if (!acl.access.empty() || !acl.default_entries.empty()) return Errc::kInvalidArgument;
    return nfs4_acl::Validate(acl.aces);
  }
  const bool has_entries = !acl.access.empty() || !acl.default_entries.empty();
  if (acl.kind != AclKind::kPosix || !acl.aces.empty() || !has_entries) {
    return Errc::kInvalidArgument;
  }
  for (const auto* entries : {&acl.access, &acl.default_entries}) {
    if (!entries->empty()) FILER_TRY(posix_acl::Validate(*entries));
  }
  return Ok();
}

Result<void> ValidateAcl(const Acl& acl, NodeKind kind) {
  if (acl.kind == AclKind::kNone) {
    const bool is_empty = acl.aces.empty() && acl.access.empty() && acl.default_entries.empty();
    return is_empty ? Result<void>(Ok()) : Result<void>(Errc::kInvalidArgument);
  }
  if (kind == NodeKind::kSymlink) return Errc::kNotSupported;
  if (acl.aces.size() > kNfs4AcesMax) return Errc::kTooBig;
  if (!acl.default_entries.empty() && kind != NodeKind::kDirectory) return Errc::kAccessDenied;
  return ValidateStoredAcl(acl);
}

std::uint32_t ModeOf(const Acl& acl, std::uint32_t mode) {
  if (acl.kind == AclKind::kNfs4) return nfs4_acl::ModeOf(acl.aces, mode);
  return posix_acl::ModeOf(acl.access, mode);  // without entries: the mode itself
}

Acl WithMode(const Acl& acl, std::uint32_t mode) {
  Acl changed = acl;
  if (acl.kind == AclKind::kNfs4) changed.aces = nfs4_acl::WithMode(acl.aces, mode);
  if (acl.kind == AclKind::kPosix) changed.access = posix_acl::WithMode(acl.access, mode);
  return changed;
}

Acl Simplified(Acl acl, std::uint32_t mode) {
  if (acl.kind == AclKind::kNfs4) return nfs4_acl::IsMode(acl.aces, mode) ? Acl{} : std::move(acl);
  if (acl.access.size() == 3) acl.access.clear();  // owner, group and others
  if (acl.access.empty() && acl.default_entries.empty()) return Acl{};
  return acl;
}

Inherited Inherit(const Acl& directory, NodeKind kind, std::optional<std::uint32_t> mode,
                  std::uint32_t umask) {
  Inherited made{Acl{}, mode.value_or(0)};
  if (kind == NodeKind::kSymlink) return made;
  const bool is_directory = kind == NodeKind::kDirectory;
  if (directory.kind == AclKind::kNfs4) {
    made.acl.aces = nfs4_acl::Inherit(directory.aces, is_directory);
    if (!made.acl.aces.empty()) {
      made.acl.kind = AclKind::kNfs4;
      if (mode.has_value()) made.acl = WithMode(made.acl, *mode);
      made.mode = ModeOf(made.acl, made.mode);
      made.acl = Simplified(std::move(made.acl), made.mode);
      return made;
    }
  }
  if (directory.kind == AclKind::kPosix && !directory.default_entries.empty()) {
    made.acl.kind = AclKind::kPosix;
    made.acl.access = directory.default_entries;
    // What is asked for bounds what the defaults give (1003.1e, 23.1.5.2).
    made.mode = mode.value_or(0777) & (ModeOf(made.acl, 0) | ~0777U);
    made.acl = WithMode(made.acl, made.mode);
    if (is_directory) made.acl.default_entries = directory.default_entries;
    made.acl = Simplified(std::move(made.acl), made.mode);
    return made;
  }
  made.mode &= ~umask;
  return made;
}

Acl ToNfs4(const Acl& acl, std::uint32_t mode, bool is_directory) {
  if (acl.kind != AclKind::kPosix) return acl;
  Acl result;
  result.kind = AclKind::kNfs4;
  Nfs4Writer(result.aces, 0, is_directory)
      .Write(acl.access.empty() ? EntriesOfMode(mode) : acl.access);
  constexpr std::uint32_t kPassedOn = kAceFileInherit | kAceDirectoryInherit | kAceInheritOnly;
  Nfs4Writer(result.aces, kPassedOn, is_directory).Write(acl.default_entries);
  return result;
}

}  // namespace filer::engine
