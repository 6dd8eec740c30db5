#include "fsal/engine/fs/quota_operations.h"

#include <algorithm>
#include <set>

#include "base/units.h"
#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {

constexpr std::size_t kIdsPerScan = 256;
constexpr std::uint64_t kGraceSecondsMax = 10ULL * 365 * 86400;

Result<void> CheckMayAdminister(const Caller& caller) {
  if (!IsPrivileged(caller)) return Errc::kNotPermitted;
  return Ok();
}

bool IsKind(QuotaKind kind) { return static_cast<std::size_t>(kind) < kQuotaKinds; }

std::uint64_t Rest(std::uint64_t limit, std::uint64_t used) {
  return limit > used ? limit - used : 0;
}

// Ids of the part from `first` on, some of them at least.
Result<std::set<std::uint32_t>> IdsFrom(const Store& store, QuotaPart part, QuotaId first) {
  std::set<std::uint32_t> ids;
  Result<void> decoded = Ok();
  FILER_TRY(store.Scan(QuotaKeyOf(part, first), EndOfQuotas(part, first.kind),
                       [&](std::string_view key, std::string_view) {
                         const auto of = QuotaIdOf(key);
                         if (!of.has_value()) decoded = of.error();
                         if (of.has_value()) ids.insert(of.value().id);
                         return of.has_value() && ids.size() < kIdsPerScan;
                       }));
  FILER_TRY(std::move(decoded));
  return ids;
}

}  // namespace

Result<Quota> QuotaOperations::Get(QuotaId of) const {
  if (!IsKind(of.kind)) return Errc::kInvalidArgument;
  const auto account = volume_.quotas.Find(of);
  if (account) return *account;
  Quota quota{of.kind, of.id};
  const auto value = volume_.store->Get(QuotaKeyOf(QuotaPart::kUsage, of));
  if (!value.has_value()) {
    if (value.error() == Errc::kNotFound) return quota;
    return value.error();
  }
  const QuotaUsage usage = FILER_TRY(DecodeQuotaUsage(value.value()));
  quota.used_bytes = usage.blocks * kBlockBytes;
  quota.used_inodes = usage.inodes;
  return quota;
}

Result<void> QuotaOperations::Set(const Caller& caller, QuotaId of, const QuotaLimits& limits) {
  FILER_TRY(CheckMayAdminister(caller));
  FILER_TRY(volume_.CheckWritable());
  const auto is_ordered = [](std::uint64_t soft, std::uint64_t hard) {
    return soft == 0 || hard == 0 || soft <= hard;
  };
  if (!IsKind(of.kind) || !IsCounted(of) || !is_ordered(limits.bytes_soft, limits.bytes_hard) ||
      !is_ordered(limits.inodes_soft, limits.inodes_hard)) {
    return Errc::kInvalidArgument;
  }
  Lsn lsn = 0;
  {
    QuotaTable::Closed closed(volume_.quotas);
    Transaction transaction;
    FILER_TRY(closed.PrepareLimits(*volume_.store, of, limits, transaction));
    lsn = FILER_TRY(volume_.store->Commit(std::move(transaction)));
    closed.AcceptLimits();
  }
  return volume_.Sync(lsn);
}

Result<void> QuotaOperations::SetGrace(const Caller& caller, QuotaKind kind, QuotaGrace grace) {
  FILER_TRY(CheckMayAdminister(caller));
  FILER_TRY(volume_.CheckWritable());
  if (!IsKind(kind) || grace.bytes_seconds > kGraceSecondsMax ||
      grace.inodes_seconds > kGraceSecondsMax) {
    return Errc::kInvalidArgument;
  }
  Lsn lsn = 0;
  {
    QuotaTable::Closed closed(volume_.quotas);
    Transaction transaction;
    transaction.Put(QuotaGraceKey(kind), EncodeQuotaGrace(grace));
    lsn = FILER_TRY(volume_.store->Commit(std::move(transaction)));
    closed.AcceptGrace(kind, grace);
  }
  return volume_.Sync(lsn);
}

Result<void> QuotaOperations::List(QuotaKind kind, std::uint32_t first_id,
                                   const std::function<bool(const Quota& quota)>& visit) const {
  if (!IsKind(kind)) return Errc::kInvalidArgument;
  for (std::uint64_t next = first_id; next <= UINT32_MAX;) {
    const QuotaId first{kind, static_cast<std::uint32_t>(next)};
    auto ids = FILER_TRY(IdsFrom(*volume_.store, QuotaPart::kUsage, first));
    auto limited = FILER_TRY(IdsFrom(*volume_.store, QuotaPart::kLimits, first));
    // What lies past the end of a scan that did not reach it is for the next round.
    std::uint64_t end = UINT64_MAX;
    if (ids.size() >= kIdsPerScan) end = *ids.rbegin();
    if (limited.size() >= kIdsPerScan) end = std::min<std::uint64_t>(end, *limited.rbegin());
    ids.merge(limited);
    if (ids.empty()) return Ok();
    for (const std::uint32_t id : ids) {
      if (id > end) break;
      next = std::uint64_t{id} + 1;
      const Quota quota = FILER_TRY(Get({kind, id}));
      const bool is_idle =
          quota.used_bytes == 0 && quota.used_inodes == 0 && quota.limits == QuotaLimits{};
      if (!is_idle && !visit(quota)) return Ok();
    }
    if (end == UINT64_MAX) return Ok();
  }
  return Ok();
}

Result<void> QuotaOperations::Narrow(NodeId below, FileSystemStatus& status) const {
  if (below.inode == 0) return Ok();
  const NodePtr node = FILER_TRY(volume_.GetNode(below));
  std::uint32_t project = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    if (node->IsDirectory() && node->record.inherits_project) project = node->record.project;
  }
  if (project == 0) return Ok();
  const auto quota = volume_.quotas.Find({QuotaKind::kProject, project});
  if (!quota) return Ok();
  const QuotaLimits& limits = quota->limits;
  const std::uint64_t bytes = limits.bytes_soft != 0 ? limits.bytes_soft : limits.bytes_hard;
  if (bytes != 0 && bytes < status.total_bytes) {
    status.total_bytes = bytes;
    status.free_bytes = std::min(status.free_bytes, Rest(bytes, quota->used_bytes));
    status.available_bytes = std::min(status.available_bytes, status.free_bytes);
  }
  const std::uint64_t inodes = limits.inodes_soft != 0 ? limits.inodes_soft : limits.inodes_hard;
  if (inodes != 0 && inodes < status.total_nodes) {
    status.total_nodes = inodes;
    status.free_nodes = std::min(status.free_nodes, Rest(inodes, quota->used_inodes));
  }
  return Ok();
}

Result<Lsn> QuotaOperations::Assign(const Caller& caller, NodeId id, std::uint32_t project,
                                    std::optional<bool> inherits) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  FILER_TRY(data_.SettlePromises(node));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  const bool will_inherit = inherits.value_or(node->IsDirectory());
  if (will_inherit && !node->IsDirectory()) return Errc::kNotDirectory;
  if (node->record.project == project && node->record.inherits_project == will_inherit) return 0;
  data_.ReturnPromises(*node);
  Staged staged(*node);
  staged.record.project = project;
  staged.record.inherits_project = will_inherit;
  staged.quota_rule = QuotaRuleOf(caller);
  volume_.TouchChange(staged.record);
  return volume_.Commit({}, {&staged});
}

Result<void> QuotaOperations::SetProject(const Caller& caller, NodeId id, std::uint32_t project,
                                         bool inherits) {
  FILER_TRY(CheckMayAdminister(caller));
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(volume_.Sync(FILER_TRY(Assign(caller, id, project, inherits))));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<std::optional<DirectoryEntry>> QuotaOperations::NextEntry(
    const ProjectWalk::Level& level) const {
  std::optional<DirectoryEntry> found;
  const std::uint64_t directory = level.directory.inode;
  if (level.cookie == UINT64_MAX) return found;
  Result<void> decoded = Ok();
  FILER_TRY(
      volume_.store->Scan(EntryKey(directory, level.cookie + 1), EndOfInode('D', directory),
                          [&](std::string_view key, std::string_view value) {
                            auto entry = DecodeEntry(value);
                            const auto cookie = KeyInteger(key, 1);
                            if (!entry.has_value()) decoded = entry.error();
                            if (!cookie.has_value()) decoded = cookie.error();
                            if (!decoded.has_value()) return false;
                            NodeId child = level.directory;
                            child.inode = entry.value().child;
                            found = DirectoryEntry{{}, child, cookie.value(), entry.value().kind};
                            return false;
                          }));
  FILER_TRY(std::move(decoded));
  return found;
}

// A node that goes away meanwhile needs no project. A directory that is moved meanwhile takes the
// way that it has had: what is set is set, and the walk ends all the same, for it goes down one
// level with each directory that it enters, and forward in each.
Result<void> QuotaOperations::SetProjectBelow(const Caller& caller, NodeId directory,
                                              std::uint32_t project, std::size_t nodes_max,
                                              ProjectWalk& walk) {
  FILER_TRY(CheckMayAdminister(caller));
  FILER_TRY(volume_.CheckWritable());
  Lsn last = 0;
  if (!walk.has_begun) {
    const NodePtr root = FILER_TRY(volume_.GetNode(directory));
    if (!root->IsDirectory()) return Errc::kNotDirectory;
    last = FILER_TRY(Assign(caller, directory, project, std::nullopt));
    walk.open = {{directory, 0}};
    walk.has_begun = true;
    ++walk.visited;
  }
  for (std::size_t step = 0; step < nodes_max && !walk.open.empty(); ++step) {
    const auto entry = FILER_TRY(NextEntry(walk.open.back()));
    if (!entry) {
      walk.open.pop_back();
      continue;
    }
    const auto assigned = Assign(caller, entry->id, project, std::nullopt);
    const bool is_gone = !assigned.has_value() && assigned.error() == Errc::kStaleHandle;
    if (!assigned.has_value() && !is_gone) return assigned.error();
    walk.open.back().cookie = entry->cookie;
    if (is_gone) continue;
    last = std::max(last, assigned.value());
    ++walk.visited;
    if (entry->kind == NodeKind::kDirectory) walk.open.push_back({entry->id, 0});
  }
  walk.is_done = walk.open.empty();
  FILER_TRY(volume_.Sync(last));
  volume_.NotifyChange({{directory, {}}});
  return Ok();
}

}  // namespace filer::engine
