#include "fsal/engine/fs/attributes.h"

#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kSetUid = 04000, kSetGid = 02000, kGroupExecute = 010;
constexpr std::string_view kCapabilities = "security.capability";

bool MayWriteByMode(const Caller& caller, const InodeRecord& record) {
  if (caller.uid == record.uid) return (record.mode & 0200) != 0;
  if (IsInGroup(caller, record.gid)) return (record.mode & 0020) != 0;
  return (record.mode & 0002) != 0;
}

// chmod, chown, utimes of POSIX: who may.
Result<void> CheckChange(const Caller& caller, const InodeRecord& record,
                         const AttributeChange& change) {
  if (IsPrivileged(caller)) return Ok();
  const bool is_owner = caller.uid == record.uid;
  if (change.mode.has_value() && !is_owner) return Errc::kNotPermitted;
  if (change.uid.has_value() && *change.uid != record.uid) return Errc::kNotPermitted;
  if (change.uid.has_value() && !is_owner) return Errc::kNotPermitted;
  if (change.gid.has_value()) {
    if (!is_owner) return Errc::kNotPermitted;
    if (*change.gid != record.gid && !IsInGroup(caller, *change.gid)) return Errc::kNotPermitted;
  }
  const bool sets_times = (change.atime_ns && !change.atime_now) ||
                          (change.mtime_ns && !change.mtime_now) || change.btime_ns.has_value();
  if (sets_times && !is_owner) return Errc::kNotPermitted;
  const bool touches = change.atime_now || change.mtime_now;
  if (touches && !is_owner && !MayWriteByMode(caller, record)) return Errc::kAccessDenied;
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

bool MaySetXattr(const Caller& caller, const InodeRecord& record, std::string_view name) {
  if (IsPrivileged(caller) || caller.uid == record.uid) return true;
  return name.starts_with("user.") && MayWriteByMode(caller, record);
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
  const bool moves_usage = change.uid.has_value() || change.gid.has_value();
  if (moves_usage) FILER_TRY(data_.SettlePromises(node));
  Lsn lsn = 0;
  if (change.size_bytes.has_value()) {
    const auto edit = [&](Staged& staged) -> Result<void> {
      FILER_TRY(CheckChange(caller, staged.record, change));
      if (moves_usage) data_.ReturnPromises(*node);
      staged.quota_rule = QuotaRuleOf(caller);
      ApplyChange(volume_, caller, change, staged.record);
      return Ok();
    };
    lsn = FILER_TRY(data_.SetSize(node, *change.size_bytes, edit));
  } else {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    FILER_TRY(CheckChange(caller, node->record, change));
    Staged staged(*node);
    if (moves_usage) data_.ReturnPromises(*node);
    staged.quota_rule = QuotaRuleOf(caller);
    volume_.TouchChange(staged.record);
    ApplyChange(volume_, caller, change, staged.record);
    lsn = FILER_TRY(volume_.Commit({}, {&staged}));
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{id, {}}});
  return Get(id);
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
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    if (!MaySetXattr(caller, node->record, name)) return Errc::kNotPermitted;
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
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    const auto old = volume_.store->Get(XattrKey(id.inode, name));
    if (!old.has_value()) {
      return old.error() == Errc::kNotFound ? Error(Errc::kNoAttribute) : old.error();
    }
    if (!MaySetXattr(caller, node->record, name)) return Errc::kNotPermitted;
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
  FILER_TRY(Get(id));
  std::vector<std::string> names;
  FILER_TRY(volume_.store->Scan(XattrKey(id.inode, ""), EndOfInode('X', id.inode),
                                [&](std::string_view key, std::string_view) {
                                  names.emplace_back(key.substr(9));
                                  return true;
                                }));
  return names;
}

}  // namespace filer::engine
