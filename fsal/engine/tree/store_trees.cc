// store_trees.cc: trees come, go and change their names; see trees.h. All at the cut of a
// checkpoint, which is the only thing that makes it durable.
#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "fsal/engine/tree/lists.h"
#include "fsal/engine/tree/store_impl.h"
#include "fsal/engine/tree/tree_view.h"

namespace filer::engine {
namespace {

bool IsNamed(const TreeRecord& record) {
  return record.kind == TreeKind::kLive || record.kind == TreeKind::kSnapshot;
}

}  // namespace

TreePtr StoreImpl::Find(TreeId id) const {
  const auto found = trees_.find(id);
  return found == trees_.end() ? nullptr : found->second;
}

Result<TreePtr> StoreImpl::FindKind(TreeId id, TreeKind kind) const {
  auto found = Find(id);
  if (found == nullptr || found->record.kind != kind) {
    return Error(Errc::kNotFound, kind == TreeKind::kSnapshot ? "there is no such snapshot"
                                                              : "there is no such fileset");
  }
  return found;
}

// The one that was made before it of the same fileset; none: nullptr.
TreePtr StoreImpl::SnapshotBefore(const TreeState& snapshot) const {
  TreePtr best;
  for (const auto& [id, state] : trees_) {
    const auto& record = state->record;
    if (record.kind != TreeKind::kSnapshot || record.fileset != snapshot.record.fileset) continue;
    const bool is_before =
        snapshot.record.kind != TreeKind::kSnapshot || record.epoch < snapshot.record.epoch;
    if (is_before && (best == nullptr || record.epoch > best->record.epoch)) best = state;
  }
  return best;
}

// The next younger snapshot, or the fileset itself.
TreePtr StoreImpl::TreeBehind(const TreeState& snapshot) const {
  TreePtr best;
  TreePtr live;
  for (const auto& [id, state] : trees_) {
    const auto& record = state->record;
    if (record.fileset != snapshot.record.fileset) continue;
    if (record.kind == TreeKind::kLive) live = state;
    if (record.kind != TreeKind::kSnapshot || record.epoch <= snapshot.record.epoch) continue;
    if (best == nullptr || record.epoch < best->record.epoch) best = state;
  }
  return best == nullptr ? live : best;
}

// `fileset`: whose snapshot it is to be; 0: it is to be a fileset.
Result<void> StoreImpl::CheckNewName(std::uint32_t fileset, std::string_view name) const {
  if (!IsTreeName(name)) {
    return Error(Errc::kInvalidName,
                 fmt::format("name '{}': 1 to {} letters, digits or any of ._:@+-, not beginning "
                             "with '.' or '-'",
                             name, kTreeNameBytesMax));
  }
  for (const auto& [id, state] : trees_) {
    const auto& record = state->record;
    const bool is_rival = fileset == 0
                              ? record.kind == TreeKind::kLive
                              : record.kind == TreeKind::kSnapshot && record.fileset == fileset;
    if (is_rival && record.name == name) {
      return Error(Errc::kExists, fmt::format("there is a {} '{}' already",
                                              fileset == 0 ? "fileset" : "snapshot", name));
    }
  }
  if (trees_.size() >= kTreesMax) {
    return Error(Errc::kNoSpace,
                 fmt::format("a volume has at most {} filesets and snapshots", kTreesMax));
  }
  return Ok();
}

TreeState& StoreImpl::AddTree(TreeRecord record) {
  record.id = next_tree_++;
  if (record.kind == TreeKind::kLive && record.fileset == 0) record.fileset = record.id;
  const auto id = record.id;
  auto state = std::make_shared<TreeState>(std::move(record), uuid_, cache_, space_, open_,
                                           open_.epoch() - 1);
  return *trees_.emplace(id, std::move(state)).first->second;
}

// What is on the list and was born after `bound` is freed; the rest goes to the list `target`.
void StoreImpl::RetireList(std::uint64_t list, std::uint64_t target, std::uint64_t bound) {
  TreeRecord record;
  record.kind = TreeKind::kDeadList;
  record.list = list;
  record.target_list = target;
  record.shared_epoch = bound;
  AddTree(std::move(record));
  has_reclaims_.store(true, std::memory_order_release);
}

void StoreImpl::RemoveTree(TreeId id) {
  const auto found = trees_.find(id);
  FILER_ASSERT(found != trees_.end());
  found->second->is_gone = true;
  trees_.erase(found);
}

std::vector<TreeRecord> StoreImpl::List() const {
  const std::shared_lock lock(map_mutex_);
  std::vector<TreeRecord> all;
  for (const auto& [id, state] : trees_) {
    if (id != kListTree) all.push_back(state->RecordNow());
  }
  return all;
}

Result<std::unique_ptr<Store>> StoreImpl::Open(TreeId id) {
  const std::shared_lock lock(map_mutex_);
  auto found = Find(id);
  if (found == nullptr || !IsNamed(found->record)) {
    return Error(Errc::kNotFound, "there is no such fileset or snapshot");
  }
  return std::unique_ptr<Store>(std::make_unique<TreeView>(*this, std::move(found)));
}

Result<TreeId> StoreImpl::Create(std::string_view name) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  TreeId id = 0;
  MutexLock lock(checkpoint_mutex_);
  FILER_TRY(RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    FILER_TRY(CheckNewName(0, name));
    TreeRecord record;
    record.name = name;
    record.list = next_list_++;
    record.made_ns = clock_.RealtimeNs();
    id = AddTree(std::move(record)).id;
    return Ok();
  }));
  return id;
}

Result<TreeId> StoreImpl::MakeSnapshot(TreeId live, std::string_view name) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  TreeId id = 0;
  MutexLock lock(checkpoint_mutex_);
  FILER_TRY(RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto of = FILER_TRY(FindKind(live, TreeKind::kLive));
    FILER_TRY(CheckNewName(of->record.fileset, name));
    auto record = of->RecordNow();
    record.kind = TreeKind::kSnapshot;
    record.origin = 0;
    record.epoch = open_.epoch();
    record.name = name;
    record.made_ns = clock_.RealtimeNs();
    record.holds = 0;
    id = AddTree(std::move(record)).id;
    of->record.list = next_list_++;
    of->SetSharedEpoch(open_.epoch());
    return Ok();
  }));
  return id;
}

Result<TreeId> StoreImpl::Clone(TreeId snapshot, std::string_view name) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  TreeId id = 0;
  MutexLock lock(checkpoint_mutex_);
  FILER_TRY(RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto of = FILER_TRY(FindKind(snapshot, TreeKind::kSnapshot));
    FILER_TRY(CheckNewName(0, name));
    auto record = of->RecordNow();
    record.kind = TreeKind::kLive;
    record.origin = of->id;
    record.fileset = 0;  // its own
    record.epoch = 0;
    record.shared_epoch = of->record.epoch;
    record.list = next_list_++;
    record.name = name;
    record.made_ns = clock_.RealtimeNs();
    record.holds = 0;
    id = AddTree(std::move(record)).id;
    return Ok();
  }));
  return id;
}

Result<void> StoreImpl::Rename(TreeId id, std::string_view name) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto found = Find(id);
    if (found == nullptr || !IsNamed(found->record)) {
      return Error(Errc::kNotFound, "there is no such fileset or snapshot");
    }
    if (found->record.name == name) return Ok();
    const bool is_live = found->record.kind == TreeKind::kLive;
    FILER_TRY(CheckNewName(is_live ? 0 : found->record.fileset, name));
    found->record.name = name;
    return Ok();
  });
}

Result<void> StoreImpl::Hold(TreeId snapshot, bool is_added) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto found = FILER_TRY(FindKind(snapshot, TreeKind::kSnapshot));
    auto& holds = found->record.holds;
    if (is_added ? holds == UINT32_MAX : holds == 0) {
      return Error(Errc::kOutOfRange, "the snapshot is not held");
    }
    holds += is_added ? 1 : -1;
    return Ok();
  });
}

Result<void> StoreImpl::Delete(TreeId id) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto found = Find(id);
    if (found == nullptr || !IsNamed(found->record)) {
      return Error(Errc::kNotFound, "there is no such fileset or snapshot");
    }
    auto& record = found->record;
    for (const auto& [other_id, other] : trees_) {
      if (other->record.kind == TreeKind::kLive && other->record.origin == id) {
        return Error(Errc::kBusy, fmt::format("fileset '{}' is a clone of it; delete that first",
                                              other->record.name));
      }
    }
    const auto before = SnapshotBefore(*found);
    if (record.kind == TreeKind::kLive) {
      if (record.fileset == kFirstTree) {
        return Error(Errc::kInvalidArgument, "the volume's first fileset stays");
      }
      if (before != nullptr) {
        return Error(Errc::kBusy, fmt::format("the fileset has snapshots ('{}'); delete them first",
                                              before->record.name));
      }
      record.kind = TreeKind::kDeadTree;
      record.name.clear();
      // Nothing on it is this tree's own any more.
      RetireList(std::exchange(record.list, 0), 0, open_.epoch() - 1);
      found->is_gone = true;
      has_reclaims_.store(true, std::memory_order_release);
      return Ok();
    }
    if (record.holds > 0) {
      return Error(Errc::kBusy,
                   fmt::format("snapshot '{}' is held; release it first", record.name));
    }
    const auto behind = TreeBehind(*found);
    FILER_ASSERT(behind != nullptr);  // a fileset with snapshots is not deleted
    const auto bound = before == nullptr ? BaseEpoch(record.fileset) : before->record.epoch;
    RetireList(record.list, behind->record.list, bound);
    // What was freed meanwhile by the tree behind it is on its list, too.
    if (behind->record.kind == TreeKind::kLive) behind->SetSharedEpoch(bound);
    RemoveTree(id);
    return Ok();
  });
}

TreePtr StoreImpl::LiveOf(std::uint32_t fileset) const {
  for (const auto& [id, state] : trees_) {
    if (state->record.kind == TreeKind::kLive && state->record.fileset == fileset) return state;
  }
  return nullptr;
}

// Up to which all belongs to the snapshot that the fileset was cloned from.
std::uint64_t StoreImpl::BaseEpoch(std::uint32_t fileset) const {
  const auto live = LiveOf(fileset);
  if (live == nullptr || live->record.origin == 0) return 0;
  const auto origin = Find(live->record.origin);
  return origin == nullptr ? 0 : origin->record.epoch;
}

Result<TreeId> StoreImpl::RollBack(TreeId live) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  TreeId id = 0;
  MutexLock lock(checkpoint_mutex_);
  FILER_TRY(RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    const auto found = FILER_TRY(FindKind(live, TreeKind::kLive));
    const auto to = SnapshotBefore(*found);
    if (to == nullptr) return Error(Errc::kNotFound, "the fileset has no snapshot to go back to");
    auto record = to->RecordNow();
    record.kind = TreeKind::kLive;
    record.fileset = found->record.fileset;
    record.origin = found->record.origin;
    record.name = found->record.name;
    record.made_ns = found->record.made_ns;
    record.epoch = 0;
    record.shared_epoch = to->record.epoch;
    record.list = next_list_++;
    record.holds = 0;
    found->record.kind = TreeKind::kDeadTree;
    found->record.name.clear();
    found->is_gone = true;
    // The new state refers to it all again; what the dead tree alone had is found by walking it.
    RetireList(std::exchange(found->record.list, 0), 0, to->record.epoch);
    found->SetSharedEpoch(to->record.epoch);
    id = AddTree(std::move(record)).id;
    has_reclaims_.store(true, std::memory_order_release);
    is_mount_epoch_due_ = true;
    return Ok();
  }));
  return id;
}

}  // namespace filer::engine
