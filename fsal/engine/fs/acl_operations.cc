// acl_operations.cc: lists of nodes: get, set, and what they decide. What they mean is in acl.h.
#include "fsal/engine/fs/acl.h"
#include "fsal/engine/fs/attributes.h"
#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kSetGid = 02000;

}  // namespace

AclSubject SubjectOf(const InodeRecord& record) {
  return {record.kind, record.mode, record.uid, record.gid};
}

bool IsPosixAclName(std::string_view name) {
  return name == kPosixAccessXattr || name == kPosixDefaultXattr;
}

// The order is RFC 7530, 6.4.1.3: first the mode, then the list.
Result<void> StageAcl(Volume& volume, const AttributeChange& change, const Caller& caller,
                      Staged& staged) {
  if (change.mode.has_value() && staged.record.acl != 0 && !change.acl.has_value()) {
    const AclPtr old = FILER_TRY(volume.acls.Get(staged.record.acl));
    staged.acl = Simplified(WithMode(*old, staged.record.mode), staged.record.mode);
  }
  if (!change.acl.has_value()) return Ok();
  FILER_TRY(ValidateAcl(*change.acl, staged.record.kind));
  staged.record.mode = ModeOf(*change.acl, staged.record.mode);
  // As with chmod: who is not in the group makes nothing that runs as the group.
  const bool is_member = caller.uid == 0 || IsInGroup(caller, staged.record.gid);
  if (!change.mode.has_value() && !is_member) {
    staged.record.mode &= ~kSetGid;
  }
  staged.acl = Simplified(*change.acl, staged.record.mode);
  return Ok();
}

Result<Acl> AttributeOps::GetAcl(NodeId id) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  return *FILER_TRY(volume_.acls.Get(node->record.acl));
}

Result<void> AttributeOps::Access(const Caller& caller, NodeId id, std::uint32_t mask) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  if (caller.is_trusted) return Ok();
  const AclPtr acl = FILER_TRY(volume_.acls.Get(node->record.acl));
  if (!IsAllowed(caller, SubjectOf(node->record), *acl, mask)) return Errc::kAccessDenied;
  return Ok();
}

Result<void> AttributeOps::AccessToRemove(const Caller& caller, NodeId directory, NodeId id) {
  const NodePtr parent = FILER_TRY(volume_.GetNode(directory));
  const NodePtr child = FILER_TRY(volume_.GetNode(id));
  const NodeLocks locks{parent.get(), child.get()};
  if (parent->is_dead || child->is_dead) return Errc::kStaleHandle;
  if (caller.is_trusted) return Ok();
  const AclPtr parent_acl = FILER_TRY(volume_.acls.Get(parent->record.acl));
  const AclPtr child_acl = FILER_TRY(volume_.acls.Get(child->record.acl));
  if (!MayRemove(caller, {SubjectOf(parent->record), *parent_acl},
                 {SubjectOf(child->record), *child_acl})) {
    return Errc::kAccessDenied;
  }
  return Ok();
}

Result<std::string> AttributeOps::GetPosixXattr(NodeId id, std::string_view name) {
  const Acl acl = FILER_TRY(GetAcl(id));
  const auto& entries = name == kPosixAccessXattr ? acl.access : acl.default_entries;
  if (entries.empty()) return Errc::kNoAttribute;
  return EncodePosixXattr(entries);
}

// One of the two halves of a POSIX list changes, the other one stays. No value, or one without
// entries, removes it.
Result<void> AttributeOps::ChangePosixXattr(const Caller& caller, NodeId id, std::string_view name,
                                            std::optional<std::string_view> value,
                                            Engine::XattrMode mode) {
  FILER_TRY(volume_.CheckWritable());
  std::vector<PosixAce> entries;
  if (value.has_value()) entries = FILER_TRY(DecodePosixXattr(*value));
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const bool is_access = name == kPosixAccessXattr;
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    if (!IsPrivileged(caller) && caller.uid != node->record.uid) return Errc::kNotPermitted;
    const AclPtr old = FILER_TRY(volume_.acls.Get(node->record.acl));
    Acl wanted;
    if (old->kind == AclKind::kPosix) wanted = *old;
    auto& half = is_access ? wanted.access : wanted.default_entries;
    if (mode == Engine::XattrMode::kCreate && !half.empty()) return Errc::kExists;
    const bool must_exist = mode == Engine::XattrMode::kReplace || !value.has_value();
    if (must_exist && half.empty()) return Errc::kNoAttribute;
    half = std::move(entries);
    const bool has_entries = !wanted.access.empty() || !wanted.default_entries.empty();
    wanted.kind = has_entries ? AclKind::kPosix : AclKind::kNone;
    Staged staged(*node);
    AttributeChange change;
    change.acl = std::move(wanted);
    volume_.TouchChange(staged.record);
    FILER_TRY(StageAcl(volume_, change, caller, staged));
    lsn = FILER_TRY(volume_.Commit({}, {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

}  // namespace filer::engine
