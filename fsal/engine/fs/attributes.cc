#include "fsal/engine/fs/attributes.h"

#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kSetUid = 04000, kSetGid = 02000, kGroupExecute = 010;
constexpr std::string_view kCapabilities = "security.capability";

bool HasRight(const Caller& caller, const InodeRecord& record, const Acl& acl, std::uint32_t mask) {
  return IsAllowed(caller, SubjectOf(record), acl, mask);
}

// chmod, chown, utimes of POSIX, and what an NFSv4 list gives to others: who may.
Result<void> CheckChange(const Caller& caller, const InodeRecord& record, const Acl& acl,
                         const AttributeChange& change) {
  if (IsPrivileged(caller)) return Ok();
  const bool is_owner = caller.uid == record.uid;
  const bool changes_acl = change.mode.has_value() || change.acl.has_value();
  if (changes_acl && !HasRight(caller, record, acl, kAceWriteAcl)) return Errc::kNotPermitted;
  const bool may_take =
      is_owner || (acl.kind == AclKind::kNfs4 && HasRight(caller, record, acl, kAceWriteOwner));
  if (change.uid.has_value()) {
    const bool takes = *change.uid == caller.uid && may_take;
    if (!takes && !(is_owner && *change.uid == record.uid)) return Errc::kNotPermitted;
  }
  if (change.gid.has_value()) {
    if (!may_take) return Errc::kNotPermitted;
    if (*change.gid != record.gid && !IsInGroup(caller, *change.gid)) return Errc::kNotPermitted;
  }
  const bool sets_times = (change.atime_ns && !change.atime_now) ||
                          (change.mtime_ns && !change.mtime_now) || change.btime_ns.has_value();
  if (sets_times && !HasRight(caller, record, acl, kAceWriteAttributes)) {
    return Errc::kNotPermitted;
  }
  const bool touches = change.atime_now || change.mtime_now;
  const bool may_touch = is_owner || HasRight(caller, record, acl, kAceWriteData);
  if (touches && !may_touch) return Errc::kAccessDenied;
  return Ok();
}

// Setgid without group execution means something else: mandatory locking.
std::uint32_t WithoutPrivileges(std::uint32_t mode) {
  mode &= ~kSetUid;
  if ((mode & kGroupExecute) != 0) mode &= ~kSetGid;
  return mode;
}

void ApplyChange(const Volume& volume, const Caller& caller, const AttributeChange& change,
                 InodeRecord& record) {
  const bool drops_privileges =
      change.uid.has_value() || change.gid.has_value() || change.size_bytes.has_value();
  if (drops_privileges && record.kind != NodeKind::kDirectory && caller.uid != 0) {
    record.mode = WithoutPrivileges(record.mode);
  }
  if (change.uid.has_value()) record.uid = *change.uid;
  if (change.gid.has_value()) record.gid = *change.gid;
  if (change.mode.has_value()) {
    record.mode = *change.mode & 07777;
    const bool drops_setgid = !IsPrivileged(caller) && record.kind != NodeKind::kDirectory &&
                              !IsInGroup(caller, record.gid);
    if (drops_setgid) record.mode &= ~kSetGid;
  }
  const std::int64_t now = volume.NowNs();
  if (change.atime_ns.has_value()) record.atime_ns = *change.atime_ns;
  if (change.mtime_ns.has_value()) record.mtime_ns = *change.mtime_ns;
  if (change.btime_ns.has_value()) record.btime_ns = *change.btime_ns;
  if (change.atime_now) record.atime_ns = now;
  if (change.mtime_now) record.mtime_ns = now;
}

Result<void> ValidateXattrName(std::string_view name) {
  if (name.empty() || name.find('\0') != std::string_view::npos) return Errc::kInvalidName;
  if (name.size() > kXattrNameBytesMax) return Errc::kNameTooLong;
  return Ok();
}

Result<void> CheckXattr(Volume& volume, const Caller& caller, const InodeRecord& record,
                        std::string_view name) {
  if (IsPrivileged(caller) || caller.uid == record.uid) return Ok();
  const AclPtr acl = FILER_TRY(volume.acls.Get(record.acl));
  if (!name.starts_with("user.") || !HasRight(caller, record, *acl, kAceWriteData)) {
    return Errc::kNotPermitted;
  }
  return Ok();
}

}  // namespace

Result<Attributes> AttributeOps::Get(NodeId id) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  return volume_.AttributesOf(*node);
}

Result<Attributes> AttributeOps::Set(const Caller& caller, NodeId id,
                                     const AttributeChange& change) {
  FILER_TRY(volume_.CheckWritable());
  if (change.mode.has_value() && (*change.mode & ~07777U) != 0) return Errc::kInvalidArgument;
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  if (change.size_bytes.has_value() && (change.mode.has_value() || change.acl.has_value())) {
    return SetInTurns(caller, id, change);
  }
  const bool moves_usage = change.uid.has_value() || change.gid.has_value();
  if (moves_usage) FILER_TRY(data_.SettlePromises(node));
  Lsn lsn = 0;
  if (change.size_bytes.has_value()) {
    const auto edit = [&](Staged& staged) -> Result<void> {
      const AclPtr acl = FILER_TRY(volume_.acls.Get(staged.record.acl));
      FILER_TRY(CheckChange(caller, staged.record, *acl, change));
      if (moves_usage) data_.ReturnPromises(*node);
      staged.quota_rule = QuotaRuleOf(caller);
      ApplyChange(volume_, caller, change, staged.record);
      return Ok();
    };
    lsn = FILER_TRY(data_.SetSize(node, *change.size_bytes, edit));
  } else {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    const AclPtr acl = FILER_TRY(volume_.acls.Get(node->record.acl));
    FILER_TRY(CheckChange(caller, node->record, *acl, change));
    Staged staged(*node);
    if (moves_usage) data_.ReturnPromises(*node);
    staged.quota_rule = QuotaRuleOf(caller);
    volume_.TouchChange(staged.record);
    ApplyChange(volume_, caller, change, staged.record);
    FILER_TRY(StageAcl(volume_, change, caller, staged));
    lsn = FILER_TRY(volume_.Commit({}, {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Get(id);
}

// Two transactions: a size changes with the extents, a mode with the list. All is asked before the
// first; a crash between them leaves a prefix.
Result<Attributes> AttributeOps::SetInTurns(const Caller& caller, NodeId id,
                                            const AttributeChange& change) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    const AclPtr acl = FILER_TRY(volume_.acls.Get(node->record.acl));
    FILER_TRY(CheckChange(caller, node->record, *acl, change));
    if (change.acl.has_value()) FILER_TRY(ValidateAcl(*change.acl, node->kind));
  }
  AttributeChange size;
  size.size_bytes = change.size_bytes;
  FILER_TRY(Set(caller, id, size));
  AttributeChange others = change;
  others.size_bytes.reset();
  return Set(caller, id, others);
}

Result<void> AttributeOps::DropPrivileges(const Caller& caller, NodeId id) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  if (node->kind != NodeKind::kFile) return Ok();
  // It may wait for the volume, so before the lock that every reader of the file takes.
  const std::string capabilities = XattrKey(id.inode, kCapabilities);
  const auto found = volume_.store->Get(capabilities);
  if (!found.has_value() && found.error() != Errc::kNotFound) return found.error();
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    const std::uint32_t mode =
        caller.uid == 0 ? node->record.mode : WithoutPrivileges(node->record.mode);
    if (!found.has_value() && mode == node->record.mode) return Ok();
    FILER_TRY(volume_.CheckWritable());
    Transaction transaction;
    if (found.has_value()) transaction.Erase(capabilities);
    Staged staged(*node);
    staged.record.mode = mode;
    volume_.TouchChange(staged.record);
    lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<std::string> AttributeOps::GetXattr(NodeId id, std::string_view name) {
  FILER_TRY(ValidateXattrName(name));
  if (IsPosixAclName(name)) return GetPosixXattr(id, name);
  FILER_TRY(Get(id));
  auto value = volume_.store->Get(XattrKey(id.inode, name));
  if (!value.has_value() && value.error() == Errc::kNotFound) return Errc::kNoAttribute;
  return value;
}

Result<void> AttributeOps::SetXattr(const Caller& caller, NodeId id, std::string_view name,
                                    std::string_view value, Engine::XattrMode mode) {
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateXattrName(name));
  if (value.size() > kXattrValueBytesMax) return Errc::kTooBig;
  if (IsPosixAclName(name)) return ChangePosixXattr(caller, id, name, value, mode);
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    FILER_TRY(CheckXattr(volume_, caller, node->record, name));
    const auto old = volume_.store->Get(XattrKey(id.inode, name));
    if (!old.has_value() && old.error() != Errc::kNotFound) return old.error();
    const bool exists = old.has_value();
    if (mode == Engine::XattrMode::kCreate && exists) return Errc::kExists;
    if (mode == Engine::XattrMode::kReplace && !exists) return Errc::kNoAttribute;
    Transaction transaction;
    transaction.Put(XattrKey(id.inode, name), std::string(value));
    Staged staged(*node);
    volume_.TouchChange(staged.record);
    lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<void> AttributeOps::RemoveXattr(const Caller& caller, NodeId id, std::string_view name) {
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateXattrName(name));
  if (IsPosixAclName(name)) {
    return ChangePosixXattr(caller, id, name, std::nullopt, Engine::XattrMode::kReplace);
  }
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    const auto old = volume_.store->Get(XattrKey(id.inode, name));
    if (!old.has_value()) {
      return old.error() == Errc::kNotFound ? Error(Errc::kNoAttribute) : old.error();
    }
    FILER_TRY(CheckXattr(volume_, caller, node->record, name));
    Transaction transaction;
    transaction.Erase(XattrKey(id.inode, name));
    Staged staged(*node);
    volume_.TouchChange(staged.record);
    lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<std::vector<std::string>> AttributeOps::ListXattrs(NodeId id) {
  const Acl acl = FILER_TRY(GetAcl(id));
  std::vector<std::string> names;
  if (!acl.access.empty()) names.emplace_back(kPosixAccessXattr);
  if (!acl.default_entries.empty()) names.emplace_back(kPosixDefaultXattr);
  FILER_TRY(volume_.store->Scan(XattrKey(id.inode, ""), EndOfInode('X', id.inode),
                                [&](std::string_view key, std::string_view) {
                                  names.emplace_back(key.substr(9));
                                  return true;
                                }));
  return names;
}

}  // namespace filer::engine
