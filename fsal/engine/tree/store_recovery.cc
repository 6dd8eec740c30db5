// store_recovery.cc: how a store is opened: checkpoint, map of used space, log, new mount.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"
#include "fsal/engine/tree/lists.h"
#include "fsal/engine/tree/store_impl.h"

namespace filer::engine {

Result<std::unique_ptr<Store>> StoreImpl::Open(BlockDevice& device, const Clock& clock,
                                               const StoreOpenOptions& options) {
  const bool read_only = options.read_only;
  const auto loaded = FILER_TRY(LoadLabel(device));
  if (!read_only && loaded.label.ro_compat != 0) {
    return Error(
        Errc::kNewerVersion,
        fmt::format("label: features {:#x} of a newer release: this one may only read the volume",
                    loaded.label.ro_compat.value()));
  }
  if (!read_only && device.Info().is_read_only) {
    return Error(Errc::kReadOnly, "open: the device is read-only");
  }
  std::unique_ptr<StoreImpl> store(new StoreImpl(device, clock, loaded.label, options));
  FILER_TRY(store->Recover(options));
  if (!read_only) {
    if (loaded.is_first_damaged || loaded.is_copy_damaged) {
      FILER_LOG_WARN("volume {}: one of the two labels is damaged, writing it anew",
                     store->VolumeName());
      FILER_TRY(WriteLabel(device, loaded.label, loaded.is_first_damaged, loaded.is_copy_damaged));
    }
    FILER_TRY(store->StartMount());
  }
  return std::unique_ptr<Store>(std::move(store));
}

Result<void> StoreImpl::Recover(const StoreOpenOptions& options) {
  root_ = FILER_TRY(LoadUberblock(device_, layout_, uuid_));
  FILER_TRY(reader_.Start());
  FILER_TRY(StartTrees());
  FILER_TRY(StartSpace(options));
  GroupPlace head;
  head.uuid = uuid_;
  head.log_epoch = root_.log_epoch;
  head.position = root_.log_head_position;
  head.first_lsn = root_.checkpoint_lsn + 1;
  head.prev_crc32c = root_.log_head_prev_crc32c;
  const LogRing ring{layout_.log_first_block, layout_.log_block_count};
  const auto end = FILER_TRY(
      ReplayLog(device_, ring, head, [this](const GroupHeader& header, std::string_view payload) {
        return ApplyGroup(header, payload);
      }));
  recovered_groups_ = end.group_count;
  recovered_lsn_ = end.next.first_lsn - 1;
  mount_epoch_ = root_.mount_epoch;
  return Ok();
}

// The table of trees; a new volume has none yet, and one empty fileset.
Result<void> StoreImpl::StartTrees() {
  open_.Start(root_.tree_epoch);
  open_epoch_.store(open_.epoch());
  TreeTable table;
  if (root_.table_piece_count == 0) {
    TreeRecord lists;
    lists.id = kListTree;
    lists.kind = TreeKind::kLists;
    TreeRecord first;
    first.id = first.fileset = kFirstTree;
    first.name = kFirstTreeName;
    first.list = 1;
    table.records = {lists, first};
  } else {
    std::string bytes;
    for (std::uint32_t at = 0; at < root_.table_piece_count; ++at) {
      const auto page = FILER_TRY(reader_.Read({root_.table[at], kPieceLevel, {}, {}, false}));
      bytes.append(page->view().piece());
      table_.push_back(root_.table[at]);
    }
    table = FILER_TRY(DecodeTreeTable(bytes, layout_, root_.tree_epoch));
  }
  next_tree_ = table.next_id;
  next_list_ = table.next_list;
  for (auto& record : table.records) {
    const auto kind = record.kind;
    const auto id = record.id;
    auto state = std::make_shared<TreeState>(std::move(record), uuid_, cache_, space_, open_,
                                             root_.tree_epoch);
    if (kind == TreeKind::kDeadTree || kind == TreeKind::kDeadList) has_reclaims_.store(true);
    if (kind == TreeKind::kLists) lists_ = state;
    if (kind == TreeKind::kLive && state->record.fileset == kFirstTree) first_ = state;
    trees_.emplace(id, std::move(state));
  }
  if (first_ == nullptr || lists_ == nullptr) {
    return Error(Errc::kCorrupt, "table of trees: the first fileset is gone");
  }
  return Ok();
}

Result<void> StoreImpl::StartSpace(const StoreOpenOptions& options) {
  const bool is_sound = FILER_TRY(map_.Load(device_, root_.tree_epoch, root_.map_sum));
  if (!is_sound || map_.used_units() != root_.node_count) {
    FILER_LOG_WARN("volume {}: the map of used space is damaged; it is made anew from the tree",
                   VolumeName());
    report_.was_remade = true;
    return RemakeMap(options);
  }
  space_.StartFromMap();
  if (!options.must_walk) return Ok();
  SpaceMap walked_map(layout_, uuid_);
  NodeSpace walked(layout_.node_first_block, layout_.node_block_count / kNodeBlocks, &walked_map);
  FILER_TRY(WalkTrees(walked, {}, [](const BlockRun&) -> Result<void> { return Ok(); }));
  report_.differs_from_tree = !std::ranges::equal(walked_map.unit_words(), map_.unit_words());
  return Ok();
}

// From the checkpoint; the log's changes to it follow in any case.
Result<void> StoreImpl::RemakeMap(const StoreOpenOptions& options) {
  map_.Clear();
  // Trees and lists share runs, and a tree may refer to part of what another does.
  return WalkTrees(space_, options, [&](const BlockRun& run) -> Result<void> {
    for (std::uint64_t at = 0; at < run.count; ++at) {
      const BlockRun block{run.first + at, 1};
      if (map_.Use(block) || map_.IsAll(block, true)) continue;
      return Error(Errc::kCorrupt, fmt::format("block {}: outside of the data area", block.first));
    }
    return Ok();
  });
}

Result<void> StoreImpl::WalkTrees(NodeSpace& space, const StoreOpenOptions& options,
                                  const TakeRun& take) {
  TreeWalk walk(reader_, cache_, space);
  const auto leaf = [&](const LeafCell& cell) -> Result<void> {
    if (!options.run_of || IsLongValue(cell.value_bytes)) return Ok();
    const auto run = FILER_TRY(options.run_of(cell.key, cell.stored));
    return run.run.count == 0 ? Ok() : take(run.run);
  };
  for (const auto& pointer : table_) FILER_TRY(walk.Mark(pointer));
  for (const auto& [id, state] : trees_) {
    if (state->record.kind == TreeKind::kDeadTree) continue;
    auto root = state->tree.Root();
    FILER_TRY(walk.Walk(root, id == kListTree ? TreeWalk::TakeCell() : leaf));
  }
  FILER_TRY(WalkLists(space, take));
  if (space.used_count() == root_.node_count) return Ok();
  return Error(Errc::kCorrupt,
               "metadata: the trees do not match their uberblock; restore the "
               "volume from a backup");
}

// What no tree refers to any more and is not given back yet.
Result<void> StoreImpl::WalkLists(NodeSpace& space, const TakeRun& take) {
  std::vector<DroppedRun> all;
  Result<void> decoded = Ok();
  FILER_TRY(ScanIn(*lists_, "", "", [&](std::string_view key, std::string_view value) {
    if (IsCursorKey(key)) return true;
    auto runs = DecodeRuns(value);
    if (!runs.has_value()) {
      decoded = runs.error();
      return false;
    }
    all.insert(all.end(), runs.value().begin(), runs.value().end());
    return true;
  }));
  FILER_TRY(decoded);
  for (const auto& [id, state] : trees_) {
    if (state->record.kind != TreeKind::kDeadTree) continue;
    auto cursor = FILER_TRY(CursorOf(id));
    while (cursor != kCursorAtEnd) {
      const auto part = FILER_TRY(NextDeadPart(*state, cursor));
      for (const auto& run : part.runs) all.push_back({run, 0});
      for (const auto& run : part.nodes) all.push_back({run, 0});
      if (part.is_end) break;
      cursor = part.next;
    }
  }
  for (const auto& run : all) {
    if (space.Contains(run.run.first)) {
      space.MarkUsed(run.run.first);
    } else {
      FILER_TRY(take(run.run));
    }
  }
  return Ok();
}

Result<void> StoreImpl::ApplyGroup(const GroupHeader& header, std::string_view payload) {
  for (std::uint64_t lsn = header.first_lsn; lsn <= header.last_lsn; ++lsn) {
    const auto applied = ApplyTransaction(payload);
    if (!applied.has_value()) {  // damage, or a node that cannot be read
      return Error(applied.error().code(),
                   fmt::format("log transaction {}: {}", lsn, applied.error().message()));
    }
  }
  if (!payload.empty()) {
    return Error(Errc::kCorrupt, fmt::format("log group {}: more bytes than transactions",
                                             header.first_lsn.value()));
  }
  return Ok();
}

Result<void> StoreImpl::ApplyTransaction(std::string_view& payload) {
  auto view = FILER_TRY(TakeTransaction(payload));
  std::vector<TreeChange> changes;
  for (std::uint32_t change = 0; change < view.change_count; ++change) {
    const auto pair = FILER_TRY(TakePair(view.pairs));
    if (!pair) return Error(Errc::kCorrupt, "a change is cut short");
    changes.push_back({pair->key, pair->value});
  }
  if (!view.pairs.empty()) return Error(Errc::kCorrupt, "more bytes than changes");
  const auto to = Find(view.tree);
  if (to == nullptr || !to->IsWritable()) {
    return Error(Errc::kCorrupt, fmt::format("it is for tree {}, which cannot change", view.tree));
  }
  Runs runs;
  runs.used = std::move(view.used);
  runs.dropped = std::move(view.dropped);
  runs.nodes = std::move(view.nodes);
  runs.buried = std::move(view.buried);
  runs.file_delta = view.file_delta;
  auto gone = runs.dropped;
  for (const auto& buried : runs.buried) gone.push_back(buried.run);
  if (DoOverlap(runs.used, gone) || !CanApply(runs)) {
    return Error(Errc::kCorrupt, "it uses blocks that are in use, or drops some that are not");
  }
  Held held;
  for (;;) {
    NodeTree::Needs needs;
    Misses misses;
    if (to->tree.Prepare(changes, needs, misses) == NodeTree::Step::kDone) {
      if (needs.unit_count > space_.free_count()) {
        return Error(Errc::kCorrupt, "it does not fit the node region");
      }
      const auto buried_before = to->tree.buried_count();
      to->tree.Apply(changes);
      ApplyRuns(*to, runs);
      buried_count_ += to->tree.buried_count() - buried_before;
      cache_.Trim();
      if (space_.is_confused()) return Error(Errc::kCorrupt, "a metadata node has two parents");
      return Ok();
    }
    FILER_TRY(Load(misses, held));
  }
}

// A new log epoch, durable before anybody is served: what the log held is in a checkpoint then, and
// its groups are stale.
Result<void> StoreImpl::StartMount() {
  // What was read may be in the device's cache only, if it was the process that died. The nodes
  // that the checkpoint before needs are overwritten from here on: nothing may lead back to it.
  FILER_TRY(FlushIfCached(device_));
  buffers_ = FILER_TRY(AllocateRunBuffers(device_));
  auto root = root_;
  root.epoch += 1;
  root.mount_epoch += 1;
  root.log_epoch = MixLogEpoch(uuid_, root.mount_epoch, clock_.RealtimeNs());
  root.log_head_position = 0;
  root.log_head_prev_crc32c = 0;
  root.is_clean = 0;
  if (recovered_groups_ > 0 || report_.was_remade) {
    root.checkpoint_lsn = recovered_lsn_;
    std::unique_lock lock(map_mutex_);
    FILER_TRY(WriteLists(lock));
    auto cut = FILER_TRY(Freeze());
    lock.unlock();
    const auto written = FILER_TRY(WriteCut(cut, root));
    FILER_TRY(WriteUberblock(device_, layout_, root, buffers_[0]));
    Thaw(cut, written);
  } else {
    FILER_TRY(WriteUberblock(device_, layout_, root, buffers_[0]));
  }
  root_ = root;
  mount_epoch_ = root.mount_epoch;
  GroupPlace head;
  head.uuid = uuid_;
  head.log_epoch = root.log_epoch;
  head.first_lsn = recovered_lsn_ + 1;
  log_ = FILER_TRY(
      LogWriter::Create(device_, {layout_.log_first_block, layout_.log_block_count}, head));
  return Ok();
}

}  // namespace filer::engine
