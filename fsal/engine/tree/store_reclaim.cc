// store_reclaim.cc: what deleted trees held is given back, in bounded transactions that say how far
// it is done. Oldest first: a list may be what the one before it goes to.
//
// Runs under the checkpoint's mutex: everything in the lists is durable then, so that a replay of
// these transactions finds it there.
#include <algorithm>

#include "fsal/engine/tree/lists.h"
#include "fsal/engine/tree/store_impl.h"

namespace filer::engine {
namespace {

constexpr std::size_t kListValuesPerStep = 16;
constexpr std::size_t kLeavesPerStep = 8;

}  // namespace

// Commits a step; makes room first if there is none. The freed runs of the data area are the
// caller's.
Result<Trees::Reclaimed> StoreImpl::CommitReclaim(const Transaction& transaction, Runs runs) {
  Reclaimed done;
  done.has_more = true;
  for (int attempt = 0;; ++attempt) {
    const auto lsn = CommitNow(*lists_, transaction, runs);
    if (lsn.has_value()) {
      done.lsn = lsn.value();
      done.freed = std::move(runs.dropped);
      return done;
    }
    if (lsn.error() != Errc::kWouldBlock || attempt == 3) return lsn.error();
    FILER_TRY(RunCheckpoint(Reason::kSpace));
  }
}

Result<Trees::Reclaimed> StoreImpl::ReclaimSome() {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock checkpoint_lock(checkpoint_mutex_);
  TreePtr dead;
  {
    const std::shared_lock lock(map_mutex_);
    for (const auto& [id, state] : trees_) {
      const auto kind = state->record.kind;
      if (kind != TreeKind::kDeadList && kind != TreeKind::kDeadTree) continue;
      dead = state;
      break;
    }
  }
  if (dead == nullptr) {
    has_reclaims_.store(false, std::memory_order_release);
    return Reclaimed{};
  }
  if (dead->record.kind == TreeKind::kDeadList) return ReclaimList(*dead);
  return ReclaimTree(*dead);
}

// First what is free of the list that takes over (`record.target_list`), then this one: its pairs
// move there. Without a target: what is free of this one, the rest is forgotten.
Result<Trees::Reclaimed> StoreImpl::ReclaimList(TreeState& dead) {
  const auto bound = dead.record.shared_epoch;
  const auto target = dead.record.target_list;
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto cursor = FILER_TRY(CursorOf(dead.id));
  const bool is_moving = target == 0 || cursor == kCursorAtEnd;
  const auto list = is_moving ? dead.record.list : target;
  const auto from = is_moving || cursor.empty() ? StartOfList(list) : cursor;
  FILER_TRY(
      ScanIn(*lists_, from, EndOfList(list), [&](std::string_view key, std::string_view value) {
        pairs.emplace_back(key, value);
        return pairs.size() < kListValuesPerStep;
      }));
  const bool is_last = pairs.size() < kListValuesPerStep;
  Transaction transaction;
  Runs runs;
  for (const auto& [key, value] : pairs) {
    std::vector<DroppedRun> kept;
    for (const auto& run : FILER_TRY(DecodeRuns(value))) {
      if (run.birth_epoch <= bound || (is_moving && target != 0)) {
        kept.push_back(run);
      } else if (space_.Contains(run.run.first)) {
        runs.nodes.push_back(run.run);
      } else {
        runs.dropped.push_back(run.run);
      }
    }
    if (is_moving) {
      transaction.Erase(key);
      if (target != 0) transaction.Put(MovedListKey(key, target), value);
    } else if (kept.empty()) {
      transaction.Erase(key);
    } else if (auto rest = EncodeRuns(kept); rest != value) {
      transaction.Put(key, std::move(rest));
    }
  }
  if (is_moving && pairs.empty()) return FinishReclaim(dead);
  if (!is_moving) {
    transaction.Put(CursorKey(dead.id),
                    is_last ? std::string(kCursorAtEnd) : pairs.back().first + '\0');
  }
  return CommitReclaim(transaction, std::move(runs));
}

Result<std::string> StoreImpl::CursorOf(TreeId id) const {
  auto cursor = GetFrom(*lists_, CursorKey(id));
  if (cursor.has_value()) return cursor;
  if (cursor.error() == Errc::kNotFound) return std::string();
  return cursor.error();
}

// First the record, then the cursor: without it all would be given back once more. Ids do not come
// again, so a cursor that a crash leaves behind means nothing.
Result<Trees::Reclaimed> StoreImpl::FinishReclaim(TreeState& dead) {
  const auto id = dead.id;
  FILER_TRY(RunCheckpoint(Reason::kTrees, [&]() -> Result<void> {
    RemoveTree(id);
    return Ok();
  }));
  Transaction transaction;
  transaction.Erase(CursorKey(id));
  return CommitReclaim(transaction, {});
}

// From `from` on: leaves and the nodes above them that are done with, as far as they are this
// tree's alone.
Result<StoreImpl::DeadPart> StoreImpl::NextDeadPart(const TreeState& dead,
                                                    const std::string& from) const {
  const auto bound = dead.record.shared_epoch;
  const auto is_own = [&](const NodePointer& pointer) {
    return pointer.block != 0 && pointer.birth_epoch > bound;
  };
  DeadPart part;
  part.next = from;
  std::size_t leaf_count = 0;
  struct Level {
    PageRef page;
    std::size_t at = 0;
    NodePointer pointer;
    std::string high;  // empty: no end
  };
  const auto root = dead.tree.Root();
  if (!is_own(root.pointer)) {
    part.is_end = true;
    return part;
  }
  const auto get = [&](const NodePointer& pointer, std::uint32_t level, std::string_view low,
                       const std::string& high) -> Result<PageRef> {
    return reader_.Read({pointer, level, std::string(low), high, false});
  };
  std::vector<Level> path;
  path.push_back({FILER_TRY(get(root.pointer, root.level, {}, {})), 0, root.pointer, {}});
  path.back().at = root.level == 0 ? 0 : path.back().page->view().ChildFor(from);
  while (!path.empty()) {
    auto& top = path.back();
    const auto view = top.page->view();
    if (view.is_leaf() || top.at == view.count()) {
      if (view.is_leaf()) {
        for (std::size_t at = 0; at < view.count(); ++at) {
          const auto cell = view.leaf(at);
          for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
            const auto pointer = PieceAt(cell, piece);
            if (is_own(pointer)) part.nodes.push_back({pointer.block, kNodeBlocks});
          }
          if (!run_of_ || IsLongValue(cell.value_bytes)) continue;
          const auto run = FILER_TRY(run_of_(cell.key, cell.stored));
          if (run.run.count > 0 && run.birth_epoch > bound) part.runs.push_back(run.run);
        }
        ++leaf_count;
      }
      part.nodes.push_back({top.pointer.block, kNodeBlocks});
      part.next = top.high;
      path.pop_back();
      if (path.empty()) break;
      // Before the next leaf only: the nodes above that end here are done with, too.
      const auto& above = path.back();
      const bool ends_above = above.at == above.page->view().count();
      if (leaf_count >= kLeavesPerStep && !ends_above) return part;
      continue;
    }
    const auto at = top.at++;
    const auto child = view.child(at);
    const auto low = at == 0 ? std::string_view() : view.key(at);
    const auto high = at + 1 < view.count() ? std::string(view.key(at + 1)) : top.high;
    if (!is_own(child)) {
      part.next = high;
      continue;
    }
    auto page = FILER_TRY(get(child, view.level() - 1, low, high));
    const auto first = page->view().is_leaf() ? 0 : page->view().ChildFor(from);
    path.push_back({std::move(page), first, child, high});
  }
  part.is_end = true;
  return part;
}

Result<Trees::Reclaimed> StoreImpl::ReclaimTree(TreeState& dead) {
  const auto cursor = FILER_TRY(CursorOf(dead.id));
  if (cursor == kCursorAtEnd) return FinishReclaim(dead);
  auto part = FILER_TRY(NextDeadPart(dead, cursor));
  Transaction transaction;
  Runs runs;
  runs.dropped = std::move(part.runs);
  runs.nodes = std::move(part.nodes);
  transaction.Put(CursorKey(dead.id), part.is_end ? std::string(kCursorAtEnd) : part.next);
  return CommitReclaim(transaction, std::move(runs));
}

Result<std::uint64_t> StoreImpl::UniqueBlocks(TreeId snapshot) const {
  std::uint64_t list = 0;
  std::uint64_t bound = 0;
  {
    const std::shared_lock lock(map_mutex_);
    const auto of = FILER_TRY(FindKind(snapshot, TreeKind::kSnapshot));
    const auto behind = TreeBehind(*of);
    const auto before = SnapshotBefore(*of);
    if (behind == nullptr) return std::uint64_t{0};
    list = behind->record.list;
    bound = before == nullptr ? BaseEpoch(of->record.fileset) : before->record.epoch;
  }
  std::uint64_t blocks = 0;
  Result<void> decoded = Ok();
  const auto add = [&](const DroppedRun& run) {
    if (run.birth_epoch > bound) blocks += run.run.count;
  };
  FILER_TRY(ScanIn(*lists_, StartOfList(list), EndOfList(list),
                   [&](std::string_view, std::string_view value) {
                     const auto runs = DecodeRuns(value);
                     if (!runs.has_value()) {
                       decoded = runs.error();
                       return false;
                     }
                     std::ranges::for_each(runs.value(), add);
                     return true;
                   }));
  FILER_TRY(decoded);
  const std::shared_lock lock(map_mutex_);
  for (const auto& [id, state] : trees_) {
    if (state->record.list == list) std::ranges::for_each(state->tree.buried(), add);
  }
  return blocks;
}

Result<std::vector<BlockRun>> StoreImpl::DeadRuns() const {
  std::vector<BlockRun> all;
  Result<void> decoded = Ok();
  const auto add = [&](const DroppedRun& run) {
    if (!space_.Contains(run.run.first)) all.push_back(run.run);
  };
  FILER_TRY(ScanIn(*lists_, "", "", [&](std::string_view key, std::string_view value) {
    if (IsCursorKey(key)) return true;
    const auto runs = DecodeRuns(value);
    if (!runs.has_value()) {
      decoded = runs.error();
      return false;
    }
    std::ranges::for_each(runs.value(), add);
    return true;
  }));
  FILER_TRY(decoded);
  std::vector<TreePtr> dead;
  {
    const std::shared_lock lock(map_mutex_);
    for (const auto& [id, state] : trees_) {
      std::ranges::for_each(state->tree.buried(), add);
      if (state->record.kind == TreeKind::kDeadTree) dead.push_back(state);
    }
  }
  for (const auto& tree : dead) {
    auto cursor = FILER_TRY(CursorOf(tree->id));
    while (cursor != kCursorAtEnd) {
      auto part = FILER_TRY(NextDeadPart(*tree, cursor));
      all.insert(all.end(), part.runs.begin(), part.runs.end());
      if (part.is_end) break;
      cursor = part.next;
    }
  }
  return all;
}

}  // namespace filer::engine
