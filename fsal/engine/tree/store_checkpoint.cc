// store_checkpoint.cc: what has changed becomes durable: nodes, table of trees, map of used space,
// then the uberblock.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/assert.h"
#include "fsal/engine/tree/lists.h"
#include "fsal/engine/tree/store_impl.h"

namespace filer::engine {
namespace {

constexpr std::size_t kPagesPerThaw = 64;  // in one hold of the lock

// Pointers to nodes that the checkpoint of `epoch` wrote get their checksums.
void SetChecksum(NodePointer& pointer, std::uint64_t epoch, const SealedNodes& sealed) {
  if (pointer.block == 0 || pointer.birth_epoch != epoch) return;
  pointer.crc32c = sealed.at(pointer.block);
}

}  // namespace

std::size_t StoreImpl::TablePieces() const {
  // One more: a new tree must not fail for want of room in the table.
  return (EncodedTreeTableBytes(trees_.size() + 1) + kPieceBytesMax - 1) / kPieceBytesMax;
}

// What a checkpoint takes itself, and no transaction may use up: the table (the two before it are
// not free yet), and what the lists may need.
std::uint64_t StoreImpl::UnitsForCheckpoint() const {
  constexpr std::uint64_t kValuesPerNode = 3;  // of half a node each at worst, and their parents
  const auto list_values = buried_count_ / kRunsPerListValue + 2 * trees_.size();
  return 3 * TablePieces() + (buried_count_ == 0 ? 0 : 8 + list_values / kValuesPerNode);
}

// Puts the runs that were buried since the last cut into the lists of their trees.
Result<void> StoreImpl::WriteLists(std::unique_lock<std::shared_mutex>& lock) {
  Held held;
  while (buried_count_ > 0) {
    std::vector<std::pair<std::string, std::string>> pairs;
    auto number = list_number_;
    for (const auto& [id, state] : trees_) {
      const auto& buried = state->tree.buried();
      for (std::size_t at = 0; at < buried.size(); at += kRunsPerListValue) {
        const auto some =
            std::span(buried).subspan(at, std::min(kRunsPerListValue, buried.size() - at));
        pairs.emplace_back(ListKey(state->record.list, open_.epoch(), number++), EncodeRuns(some));
      }
    }
    std::vector<TreeChange> changes;
    for (const auto& [key, value] : pairs) changes.push_back({key, value});
    NodeTree::Needs needs;
    Misses misses;
    if (lists_->tree.Prepare(changes, needs, misses) == NodeTree::Step::kMiss) {
      lock.unlock();
      FILER_TRY(Load(misses, held));
      lock.lock();
      continue;
    }
    if (needs.unit_count + TablePieces() > space_.free_count()) {
      return Error(Errc::kNoSpace, "checkpoint: the node region is full");
    }
    lists_->tree.Apply(changes);
    for (const auto& [id, state] : trees_) state->tree.ForgetBuried();
    list_number_ = number;
    buried_count_ = 0;
  }
  return Ok();
}

Result<StoreImpl::Cut> StoreImpl::Freeze() {
  Cut cut;
  cut.epoch = open_.epoch();
  const auto piece_count = TablePieces();
  if (piece_count > kTablePiecesMax || piece_count > space_.free_count()) {
    return Error(Errc::kNoSpace, "checkpoint: no room for the table of trees");
  }
  for (std::size_t at = 0; at < piece_count; ++at) {
    const auto block = space_.Allocate();
    FILER_ASSERT(block);
    cut.table_pages.push_back(std::make_shared<Page>(uuid_, kPieceLevel, *block, cut.epoch));
  }
  for (const auto& pointer : table_) {
    space_.FreeLater(pointer.block, cut.epoch);
    cache_.Remove(pointer.block);
  }
  table_.clear();
  for (const auto& page : cut.table_pages) {
    NodePointer pointer{};
    pointer.block = page->block();
    pointer.birth_epoch = cut.epoch;
    table_.push_back(pointer);
  }
  cut.table.next_id = next_tree_;
  cut.table.next_list = next_list_;
  for (const auto& [id, state] : trees_) {
    state->record = state->RecordNow();
    cut.table.records.push_back(state->record);
  }
  cut.node_count = space_.used_count();
  cut.pages = open_.Freeze();
  open_epoch_.store(open_.epoch(), std::memory_order_release);
  cut.map = map_.TakeChanged();
  return cut;
}

// Writes what changed since the checkpoint before, and points `root` there. Durable on return.
Result<StoreImpl::WrittenCut> StoreImpl::WriteCut(Cut& cut, Uberblock& root) {
  const auto started_ns = clock_.MonotonicNs();
  WrittenCut written;
  written.sealed = FILER_TRY(WriteNodes(device_, cut.pages, buffers_));
  for (auto& record : cut.table.records) SetChecksum(record.root, cut.epoch, written.sealed);
  const auto bytes = EncodeTreeTable(cut.table);
  std::string_view rest = bytes;
  for (const auto& page : cut.table_pages) {
    page->SetPiece(rest.substr(0, kPieceBytesMax));
    rest.remove_prefix(std::min(rest.size(), kPieceBytesMax));
    NodePointer pointer{};
    pointer.block = page->block();
    pointer.birth_epoch = cut.epoch;
    pointer.crc32c = SealNode(page->bytes());
    written.table.push_back(pointer);
  }
  FILER_ASSERT(rest.empty());
  FILER_TRY(WriteNodes(device_, cut.table_pages, buffers_));
  written.map = FILER_TRY(map_.Write(device_, cut.map, cut.epoch, buffers_[0]));
  FILER_TRY(FlushIfCached(device_));
  root.tree_epoch = cut.epoch;
  root.table_piece_count = static_cast<std::uint32_t>(written.table.size());
  for (std::size_t at = 0; at < kTablePiecesMax; ++at) {
    root.table[at] = at < written.table.size() ? written.table[at] : NodePointer{};
  }
  root.node_count = cut.node_count;
  root.map_sum = written.map.sum;
  written_count_.fetch_add(cut.pages.size() + cut.table_pages.size(), std::memory_order_relaxed);
  checkpoint_count_.fetch_add(1, std::memory_order_relaxed);
  const auto took_ns = static_cast<std::uint64_t>(clock_.MonotonicNs() - started_ns);
  checkpoint_ns_.fetch_add(took_ns, std::memory_order_relaxed);
  checkpoint_last_ns_.store(took_ns, std::memory_order_relaxed);
  // Checkpoints come one after the other.
  if (took_ns > checkpoint_max_ns_.load(std::memory_order_relaxed)) {
    checkpoint_max_ns_.store(took_ns, std::memory_order_relaxed);
  }
  return written;
}

// The checkpoint is durable: its nodes are clean, and what earlier ones alone needed is free.
void StoreImpl::Thaw(const Cut& cut, const WrittenCut& written) {
  map_.Accept(written.map);
  const auto& sealed = written.sealed;
  const std::span<const PageRef> pages(cut.pages);
  const auto in_parts = [&](const auto& call) {
    for (std::size_t at = 0; at < pages.size(); at += kPagesPerThaw) {
      const std::unique_lock lock(map_mutex_);
      call(pages.subspan(at, std::min(kPagesPerThaw, pages.size() - at)));
    }
  };
  in_parts([&](std::span<const PageRef> part) { OpenNodes::SetChecksums(part, sealed); });
  {
    const std::unique_lock lock(map_mutex_);
    open_.SetOpenChecksums(cut.epoch, sealed);
    for (const auto& [id, state] : trees_) {
      state->tree.SetRootChecksum(cut.epoch, sealed);
      SetChecksum(state->record.root, cut.epoch, sealed);
    }
    space_.Release(cut.epoch);
  }
  in_parts([&](std::span<const PageRef> part) { open_.SetClean(part); });
  const std::unique_lock lock(map_mutex_);
  dirty_count_.store(open_.count(), std::memory_order_relaxed);
}

Result<void> StoreImpl::RunCheckpoint(Reason reason, const Edit& edit) {
  FILER_TRY(log_->Health());
  std::unique_lock lock(map_mutex_);
  FILER_TRY(WriteLists(lock));
  if (edit) FILER_TRY(edit());
  const auto cut = log_->Cut();
  const bool has_tree =
      cut.lsn != root_.checkpoint_lsn || reason == Reason::kSpace || reason == Reason::kTrees;
  if (!has_tree && reason != Reason::kClose) return Ok();
  Cut frozen;
  if (has_tree) {
    auto freeze = Freeze();
    if (!freeze.has_value()) {
      // The edit was made already: what is in memory must not be told from what is on the disk.
      if (edit) log_->Fail(freeze.error());
      return freeze.error();
    }
    frozen = std::move(freeze).value();
  }
  lock.unlock();

  // The log up to the cut must be written before its place is given away.
  FILER_TRY(log_->Sync(cut.lsn));
  auto root = root_;
  root.epoch += 1;
  root.checkpoint_lsn = cut.lsn;
  root.log_head_position = cut.position;
  root.log_head_prev_crc32c = cut.prev_crc32c;
  root.is_clean = reason == Reason::kClose ? 1 : 0;
  if (std::exchange(is_mount_epoch_due_, false)) root.mount_epoch += 1;
  WrittenCut done;
  const auto write = [&]() -> Result<void> {
    if (has_tree) done = FILER_TRY(WriteCut(frozen, root));
    return WriteUberblock(device_, layout_, root, buffers_[0]);
  };
  const auto written = write();
  if (!written.has_value()) {
    const Error error(Errc::kIo, "checkpoint: " + written.error().message());
    log_->Fail(error);
    return error;
  }
  root_ = root;
  mount_epoch_.store(root.mount_epoch, std::memory_order_release);
  if (has_tree) Thaw(frozen, done);
  log_->Trim(cut.position);
  return Ok();
}

}  // namespace filer::engine
