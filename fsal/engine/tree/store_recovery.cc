// store_recovery.cc: how a store is opened: checkpoint, map of used space, log, new mount.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"
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
  const TreeRoot tree_root{root_.root,       root_.root_level, root_.tree_epoch,
                           root_.node_count, root_.key_count,  root_.key_bytes};
  FILER_TRY(StartSpace(options, tree_root));
  tree_.Start(tree_root);
  file_count_ = root_.file_count;
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

Result<void> StoreImpl::StartSpace(const StoreOpenOptions& options, const TreeRoot& tree_root) {
  const bool is_sound = FILER_TRY(map_.Load(device_, root_.tree_epoch, root_.map_sum));
  if (!is_sound || map_.used_units() != root_.node_count) {
    FILER_LOG_WARN("volume {}: the map of used space is damaged; it is made anew from the tree",
                   VolumeName());
    report_.was_remade = true;
    return RemakeMap(options, tree_root);
  }
  space_.StartFromMap();
  if (!options.must_walk) return Ok();
  SpaceMap walked_map(layout_, uuid_);
  NodeSpace walked(layout_.node_first_block, layout_.node_block_count / kNodeBlocks, &walked_map);
  FILER_TRY(WalkTree(reader_, tree_root, cache_, walked));
  report_.differs_from_tree = !std::ranges::equal(walked_map.unit_words(), map_.unit_words());
  return Ok();
}

// From the checkpoint; the log's changes to it follow in any case.
Result<void> StoreImpl::RemakeMap(const StoreOpenOptions& options, const TreeRoot& tree_root) {
  map_.Clear();
  FILER_TRY(WalkTree(reader_, tree_root, cache_, space_));
  if (!options.run_of) return Ok();
  tree_.Start(tree_root);
  Result<void> outcome = Ok();
  const auto take = [&](std::string_view key, std::string_view value) -> Result<void> {
    const auto run = FILER_TRY(options.run_of(key, value));
    if (run.count == 0 || map_.Use(run)) return Ok();
    return Error(Errc::kCorrupt,
                 fmt::format("blocks {} to {}: outside of the data area, or referred to twice",
                             run.first, run.first + run.count - 1));
  };
  FILER_TRY(Scan("", "", [&](std::string_view key, std::string_view value) {
    outcome = take(key, value);
    return outcome.has_value();
  }));
  return outcome;
}

Result<void> StoreImpl::ApplyGroup(const GroupHeader& header, std::string_view payload) {
  for (std::uint64_t lsn = header.first_lsn; lsn <= header.last_lsn; ++lsn) {
    const auto applied = ApplyTransaction(payload);
    if (!applied.has_value()) {
      return Error(Errc::kCorrupt,
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
  if (DoOverlap(view.used, view.dropped) || !CanApply(view.used, view.dropped)) {
    return Error(Errc::kCorrupt, "it uses blocks that are in use, or drops some that are not");
  }
  Held held;
  for (;;) {
    NodeTree::Needs needs;
    Misses misses;
    if (tree_.Prepare(changes, needs, misses) == NodeTree::Step::kDone) {
      if (needs.unit_count > space_.free_count()) {
        return Error(Errc::kCorrupt, "it does not fit the node region");
      }
      tree_.Apply(changes);
      ApplyRuns(view.used, view.dropped, view.file_delta);
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
    const auto cut = Freeze();
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
