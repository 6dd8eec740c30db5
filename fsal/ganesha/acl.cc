#include "fsal/ganesha/acl.h"

#include <optional>
#include <span>

namespace filer::ganesha {

namespace {

using engine::AceWho;

std::optional<AceWho> SpecialWho(const fsal_ace_t& ace) {
  switch (ace.who.uid) {
    case FSAL_ACE_SPECIAL_OWNER:
      return AceWho::kOwner;
    case FSAL_ACE_SPECIAL_GROUP:
      return AceWho::kGroup;
    case FSAL_ACE_SPECIAL_EVERYONE:
      return AceWho::kEveryone;
    default:
      return std::nullopt;
  }
}

std::uint32_t SpecialId(AceWho who) {
  if (who == AceWho::kOwner) return FSAL_ACE_SPECIAL_OWNER;
  return who == AceWho::kGroup ? FSAL_ACE_SPECIAL_GROUP : FSAL_ACE_SPECIAL_EVERYONE;
}

// Who, with the flag that belongs to it.
Result<void> SetWho(const fsal_ace_t& from, engine::Nfs4Ace& ace) {
  ace.flags &= ~std::uint32_t{engine::kAceIdentifierGroup};
  if ((from.iflag & FSAL_ACE_IFLAG_SPECIAL_ID) != 0) {
    const auto who = SpecialWho(from);
    if (!who.has_value()) return Errc::kNotSupported;
    ace.who = *who;
  } else if ((from.flag & FSAL_ACE_FLAG_GROUP_ID) != 0) {
    ace.who = AceWho::kNamedGroup;
    ace.flags |= engine::kAceIdentifierGroup;
    ace.id = from.who.gid;
  } else {
    ace.who = AceWho::kNamedUser;
    ace.id = from.who.uid;
  }
  return Ok();
}

}  // namespace

Result<engine::Acl> ToEngineAcl(const fsal_acl_t* from) {
  engine::Acl acl;
  if (from == nullptr || from->naces == 0) return acl;
  acl.kind = engine::AclKind::kNfs4;
  for (const fsal_ace_t& entry : std::span(from->aces, from->naces)) {
    const bool is_obeyed = entry.type == FSAL_ACE_TYPE_ALLOW || entry.type == FSAL_ACE_TYPE_DENY;
    const bool is_known =
        (entry.flag & ~engine::kAceAllFlags) == 0 && (entry.perm & ~engine::kAceAllBits) == 0;
    if (!is_obeyed || !is_known) return Errc::kNotSupported;
    engine::Nfs4Ace ace;
    ace.type = entry.type == FSAL_ACE_TYPE_DENY ? engine::AceType::kDeny : engine::AceType::kAllow;
    ace.flags = entry.flag;
    ace.mask = entry.perm;
    FILER_TRY(SetWho(entry, ace));
    acl.aces.push_back(ace);
  }
  return acl;
}

std::vector<fsal_ace_t> ToFsalAces(const engine::Acl& acl) {
  std::vector<fsal_ace_t> entries;
  for (const engine::Nfs4Ace& ace : acl.aces) {
    fsal_ace_t entry{};
    entry.type = static_cast<fsal_acetype_t>(ace.type);
    entry.perm = ace.mask;
    entry.flag = ace.flags;
    if (ace.who <= AceWho::kEveryone) {
      entry.iflag = FSAL_ACE_IFLAG_SPECIAL_ID;
      entry.who.uid = SpecialId(ace.who);
    } else if (ace.who == AceWho::kNamedGroup) {
      entry.who.gid = ace.id;
    } else {
      entry.who.uid = ace.id;
    }
    entries.push_back(entry);
  }
  return entries;
}

}  // namespace filer::ganesha
