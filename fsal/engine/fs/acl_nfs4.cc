// acl_nfs4.cc: NFSv4 access control lists (RFC 7530, 6).
#include <algorithm>

#include "fsal/engine/fs/acl.h"

namespace filer::engine::nfs4_acl {
namespace {

constexpr std::uint32_t kWrite = kAceWriteData | kAceAppendData;
constexpr std::uint32_t kModeBits = kAceReadData | kWrite | kAceExecute;
constexpr std::uint32_t kOwnersOwn =
    kAceReadAcl | kAceWriteAcl | kAceReadAttributes | kAceWriteAttributes;
constexpr std::uint32_t kInheritFlags =
    kAceFileInherit | kAceDirectoryInherit | kAceNoPropagate | kAceInheritOnly;

// One class of the mode (rwx) as rights.
std::uint32_t RightsOf(std::uint32_t rwx) {
  return ((rwx & 4) != 0 ? kAceReadData : 0U) | ((rwx & 2) != 0 ? kWrite : 0U) |
         ((rwx & 1) != 0 ? kAceExecute : 0U);
}
std::uint32_t RwxOf(std::uint32_t rights) {
  return ((rights & kAceReadData) != 0 ? 4U : 0U) | ((rights & kWrite) == kWrite ? 2U : 0U) |
         ((rights & kAceExecute) != 0 ? 1U : 0U);
}

bool IsSpecial(const Nfs4Ace& ace) { return ace.who <= AceWho::kEveryone; }
bool DecidesHere(const Nfs4Ace& ace) {
  return ace.type <= AceType::kDeny && (ace.flags & kAceInheritOnly) == 0;
}

bool Concerns(const Nfs4Ace& ace, const Caller& caller, const AclSubject& subject) {
  switch (ace.who) {
    case AceWho::kOwner:
      return caller.uid == subject.uid;
    case AceWho::kGroup:
      return IsInGroup(caller, subject.gid);
    case AceWho::kEveryone:
      return true;
    case AceWho::kNamedUser:
      return caller.uid == ace.id;
    case AceWho::kNamedGroup:
      return IsInGroup(caller, ace.id);
  }
  return false;
}

// The first entry that names a right decides it.
template <typename Predicate>
std::uint32_t Evaluate(const std::vector<Nfs4Ace>& aces, const Predicate& concerns) {
  std::uint32_t allowed = 0;
  std::uint32_t decided = 0;
  for (const Nfs4Ace& ace : aces) {
    if (!DecidesHere(ace) || !concerns(ace)) continue;
    if (ace.type == AceType::kAllow) allowed |= ace.mask & ~decided;
    decided |= ace.mask;
  }
  return allowed;
}

// For those that only special entries speak of.
std::uint32_t RightsOfClass(const std::vector<Nfs4Ace>& aces, bool is_owner, bool is_group) {
  return Evaluate(aces, [&](const Nfs4Ace& ace) {
    return ace.who == AceWho::kEveryone || (is_owner && ace.who == AceWho::kOwner) ||
           (is_group && ace.who == AceWho::kGroup);
  });
}

Nfs4Ace Special(AceType type, AceWho who, std::uint32_t mask) { return {type, who, 0, mask, 0}; }

// What chmod leaves of an entry that decides here: nothing of rwx where the entries of the mode,
// which are added, say it; of named ones what the group's bits permit.
std::uint32_t MaskUnder(const Nfs4Ace& ace, std::uint32_t mode) {
  std::uint32_t keep = ~std::uint32_t{0};
  const std::uint32_t shift = ace.who == AceWho::kOwner ? 6 : ace.who == AceWho::kEveryone ? 0 : 3;
  const std::uint32_t rwx = mode >> shift & 7;
  if (IsSpecial(ace)) {
    keep = ~kModeBits;
  } else if (ace.type == AceType::kAllow) {
    keep = ~(kModeBits & ~RightsOf(rwx));
  }
  if (ace.type == AceType::kAllow && (rwx & 2) == 0) keep &= ~std::uint32_t{kAceDeleteChild};
  return ace.mask & keep;
}

}  // namespace

Result<void> Validate(const std::vector<Nfs4Ace>& aces) {
  for (const Nfs4Ace& ace : aces) {
    const bool is_named = ace.who == AceWho::kNamedUser || ace.who == AceWho::kNamedGroup;
    const bool is_sound =
        ace.type <= AceType::kAlarm && ace.who >= AceWho::kOwner &&
        ace.who <= AceWho::kNamedGroup && (ace.flags & ~kAceAllFlags) == 0 &&
        (ace.mask & ~kAceAllBits) == 0 && (is_named || ace.id == 0) &&
        ((ace.flags & kAceIdentifierGroup) != 0) == (ace.who == AceWho::kNamedGroup);
    if (!is_sound) return Errc::kInvalidArgument;
  }
  return Ok();
}

bool IsAllowed(const Caller& caller, const AclSubject& subject, const std::vector<Nfs4Ace>& aces,
               std::uint32_t mask) {
  if (caller.uid == subject.uid) mask &= ~kOwnersOwn;
  const std::uint32_t allowed =
      Evaluate(aces, [&](const Nfs4Ace& ace) { return Concerns(ace, caller, subject); });
  return (mask & ~allowed) == 0;
}

bool IsDecided(const Caller& caller, const AclSubject& subject, const std::vector<Nfs4Ace>& aces,
               std::uint32_t mask) {
  return std::any_of(aces.begin(), aces.end(), [&](const Nfs4Ace& ace) {
    return DecidesHere(ace) && (ace.mask & mask) != 0 && Concerns(ace, caller, subject);
  });
}

bool MayAnybodyExecute(const std::vector<Nfs4Ace>& aces) {
  return std::any_of(aces.begin(), aces.end(), [](const Nfs4Ace& ace) {
    return DecidesHere(ace) && ace.type == AceType::kAllow && (ace.mask & kAceExecute) != 0;
  });
}

// RFC 7530, 6.3.2.
std::uint32_t ModeOf(const std::vector<Nfs4Ace>& aces, std::uint32_t mode) {
  return (mode & ~0777U) | RwxOf(RightsOfClass(aces, true, false)) << 6 |
         RwxOf(RightsOfClass(aces, false, true)) << 3 | RwxOf(RightsOfClass(aces, false, false));
}

// RFC 7530, 6.4.1.1. The owner's bits come first, so that nothing said of him as a member or by
// name changes them; the group's and everyone's come last. What is to be inherited, audited or
// alarmed stays as it is.
std::vector<Nfs4Ace> WithMode(const std::vector<Nfs4Ace>& aces, std::uint32_t mode) {
  const std::uint32_t owner = RightsOf(mode >> 6 & 7), group = RightsOf(mode >> 3 & 7);
  const std::uint32_t other = RightsOf(mode & 7);
  std::vector<Nfs4Ace> kept;
  std::uint32_t grantable = group | other;
  for (const Nfs4Ace& ace : aces) {
    const std::uint32_t mask = DecidesHere(ace) ? MaskUnder(ace, mode) : ace.mask;
    if (mask == ace.mask && (!DecidesHere(ace) || mask != 0)) {
      kept.push_back(ace);
    } else {
      if ((ace.flags & (kAceFileInherit | kAceDirectoryInherit)) != 0) {
        kept.push_back(ace);
        kept.back().flags |= kAceInheritOnly;
      }
      if (mask != 0) {
        kept.push_back(ace);
        kept.back().mask = mask;
        kept.back().flags &= ~kInheritFlags;
      }
    }
    if (DecidesHere(ace) && ace.type == AceType::kAllow) grantable |= mask & kModeBits;
  }
  std::vector<Nfs4Ace> result;
  if ((grantable & ~owner) != 0) {
    result.push_back(Special(AceType::kDeny, AceWho::kOwner, grantable & ~owner));
  }
  if (owner != 0) result.push_back(Special(AceType::kAllow, AceWho::kOwner, owner));
  result.insert(result.end(), kept.begin(), kept.end());
  if ((other & ~group) != 0) {
    result.push_back(Special(AceType::kDeny, AceWho::kGroup, other & ~group));
  }
  if (group != 0) result.push_back(Special(AceType::kAllow, AceWho::kGroup, group));
  if (other != 0) result.push_back(Special(AceType::kAllow, AceWho::kEveryone, other));
  return result;
}

std::vector<Nfs4Ace> Inherit(const std::vector<Nfs4Ace>& directory, bool is_directory) {
  std::vector<Nfs4Ace> inherited;
  for (Nfs4Ace ace : directory) {
    const bool for_files = (ace.flags & kAceFileInherit) != 0;
    const bool for_directories = (ace.flags & kAceDirectoryInherit) != 0;
    const bool goes_on = (ace.flags & kAceNoPropagate) == 0;
    if (is_directory ? !for_directories && !(for_files && goes_on) : !for_files) continue;
    if (!is_directory || !goes_on) {
      ace.flags &= ~kInheritFlags;
    } else if (for_directories) {
      ace.flags &= ~std::uint32_t{kAceInheritOnly};
    } else {
      ace.flags |= kAceInheritOnly;  // for the files below
    }
    inherited.push_back(ace);
  }
  return inherited;
}

// Every class, and the owner also as a member of the group, gets from the list what it gets from
// the mode. Rights that nothing here asks for make no difference.
bool IsMode(const std::vector<Nfs4Ace>& aces, std::uint32_t mode) {
  for (const Nfs4Ace& ace : aces) {
    if (ace.type > AceType::kDeny || ace.flags != 0 || !IsSpecial(ace)) return false;
    // Which of the two allows the removal of a name is decided by what is said at all.
    if ((ace.mask & (kAceDelete | kAceDeleteChild)) != 0) return false;
  }
  constexpr std::uint32_t kAlways = kAceReadAttributes | kAceReadAcl;
  constexpr std::uint32_t kAsked = kModeBits | kAlways | kAceWriteAttributes | kAceWriteAcl;
  const auto is_as = [&](bool is_owner, bool is_group, std::uint32_t rwx) {
    std::uint32_t rights = RightsOfClass(aces, is_owner, is_group) & (kAsked | kAceWriteOwner);
    if (is_owner) rights = (rights | kOwnersOwn) & ~std::uint32_t{kAceWriteOwner};
    return rights == (RightsOf(rwx) | kAlways | (is_owner ? kOwnersOwn : 0U));
  };
  return is_as(true, false, mode >> 6 & 7) && is_as(true, true, mode >> 6 & 7) &&
         is_as(false, true, mode >> 3 & 7) && is_as(false, false, mode & 7);
}

}  // namespace filer::engine::nfs4_acl
