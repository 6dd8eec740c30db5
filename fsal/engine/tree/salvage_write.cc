// salvage_write.cc: the keys of a salvaged volume, and the new tree that is made of them.
#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "fsal/engine/tree/salvage.h"
#include "fsal/engine/tree/tree_builder.h"

namespace filer::engine {

Result<std::string> Salvage::ValueOf(const LeafCell& cell) {
  if (!IsLongValue(cell.value_bytes)) return std::string(cell.stored);
  std::string value;
  for (std::size_t at = 0; at < PiecesOf(cell.value_bytes); ++at) {
    const auto piece = FILER_TRY(reader_.Read({PieceAt(cell, at), kPieceLevel, {}, {}}));
    value.append(piece->view().piece());
  }
  return value;
}

Result<void> Salvage::Scan(const Visit& visit) {
  const Changes& changes = changes_;
  auto change = changes.begin();
  const auto visit_change = [&] {
    if (change->second) visit(change->first, *change->second);
    ++change;
  };
  for (const Leaf& leaf : leaves_) {
    const auto page = FILER_TRY(reader_.Read({leaf.pointer, 0, {}, {}}));
    const auto view = page->view();
    for (std::size_t at = 0; at < view.count(); ++at) {
      const auto cell = view.leaf(at);
      while (change != changes.end() && change->first < cell.key) visit_change();
      if (change != changes.end() && change->first == cell.key) {
        visit_change();
      } else {
        visit(cell.key, FILER_TRY(ValueOf(cell)));
      }
    }
  }
  while (change != changes.end()) visit_change();
  return Ok();
}

Result<void> Salvage::MergeLeaf(const Leaf& leaf, Changes::const_iterator from,
                                Changes::const_iterator to, TreeBuilder& builder) {
  const auto page = FILER_TRY(reader_.Read({leaf.pointer, 0, {}, {}}));
  const auto view = page->view();
  const auto add_change = [&]() -> Result<void> {
    if (from->second) FILER_TRY(builder.Add(from->first, *from->second));
    ++from;
    return Ok();
  };
  for (std::size_t at = 0; at < view.count(); ++at) {
    const auto key = view.key(at);
    while (from != to && from->first < key) FILER_TRY(add_change());
    if (from != to && from->first == key) {
      FILER_TRY(add_change());
    } else {
      FILER_TRY(builder.AddCell(key, view.leaf(at).value_bytes, view.cell(at)));
    }
  }
  while (from != to) FILER_TRY(add_change());
  return Ok();
}

Result<void> Salvage::BuildTree(TreeBuilder& builder) {
  const Changes& changes = changes_;
  auto from = changes.begin();
  for (std::size_t at = 0; at < leaves_.size(); ++at) {
    const auto to =
        at + 1 < leaves_.size() ? changes.lower_bound(leaves_[at + 1].first_key) : changes.end();
    if (from == to) {
      FILER_TRY(builder.Keep(leaves_[at].pointer, leaves_[at].first_key, leaves_[at].key_count,
                             leaves_[at].key_bytes));
    } else {
      FILER_TRY(MergeLeaf(leaves_[at], from, to, builder));
    }
    from = to;
  }
  for (; from != changes.end(); ++from) {
    if (from->second) FILER_TRY(builder.Add(from->first, *from->second));
  }
  return Ok();
}

// Only what differs: a block of the map that stays is not written, so that the map of the old tree
// is whole until the new one is durable.
void Salvage::SetMap(std::span<const std::uint64_t> unit_words,
                     std::span<const std::uint64_t> data_words) {
  if (!is_map_sound_) map_.Clear();
  const auto each_difference = [](std::span<const std::uint64_t> is,
                                  std::span<const std::uint64_t> wanted, const auto& call) {
    const std::vector<std::uint64_t> before(is.begin(), is.end());
    for (std::size_t word = 0; word < before.size(); ++word) {
      for (auto rest = before[word] ^ wanted[word]; rest != 0; rest &= rest - 1) {
        const auto bit = static_cast<std::uint64_t>(std::countr_zero(rest));
        call(word * 64 + bit, (wanted[word] >> bit & 1) != 0);
      }
    }
  };
  each_difference(map_.unit_words(), unit_words, [&](std::uint64_t unit, bool is_used) {
    is_used ? map_.UseUnit(unit) : map_.DropUnit(unit);
  });
  each_difference(map_.data_words(), data_words, [&](std::uint64_t block, bool is_used) {
    const BlockRun run{layout_.data_first_block + block, 1};
    is_used ? map_.Use(run) : map_.Drop(run);
  });
}

Result<NodePointer> Salvage::WriteTable(const TreeRecord& first, std::uint64_t epoch,
                                        const RunBuffers& buffers) {
  TreeTable table = table_;
  table.records[1] = first;
  const std::string bytes = EncodeTreeTable(table);
  FILER_ASSERT(bytes.size() <= kPieceBytesMax);  // two records
  const auto block = space_.Allocate();
  if (!block) return Error(Errc::kNoSpace, "the node region has no room for the table of trees");
  const auto page = std::make_shared<Page>(uuid_, kPieceLevel, *block, epoch);
  page->SetPiece(bytes);
  NodePointer pointer{};
  pointer.block = *block;
  pointer.birth_epoch = epoch;
  pointer.crc32c = SealNode(page->bytes());
  FILER_TRY(WriteNodes(device_, std::span(&page, 1), buffers));
  return pointer;
}

Result<void> Salvage::Write(std::span<const std::uint64_t> data_words, std::uint64_t file_count) {
  FILER_TRY(FlushIfCached(device_));
  const auto buffers = FILER_TRY(AllocateRunBuffers(device_));
  if (is_map_sound_) {
    // Also what a node that was not seen may lie in.
    const auto words = map_.unit_words();
    for (std::uint64_t unit = 0; unit < space_.unit_count(); ++unit) {
      if ((words[unit / 64] >> unit % 64 & 1) != 0) {
        static_cast<void>(space_.MarkUsed(layout_.node_first_block + unit * kNodeBlocks));
      }
    }
  }
  const std::uint64_t epoch = root_.tree_epoch + 1;
  TreeBuilder builder(uuid_, epoch, space_);
  FILER_TRY(BuildTree(builder));
  TreeRecord first = first_;
  first.root = FILER_TRY(builder.Finish());
  first.level = builder.level();
  first.key_count = builder.key_count();
  first.key_bytes = builder.key_bytes();
  first.file_count = file_count;
  const auto sealed = FILER_TRY(WriteNodes(device_, builder.pages(), buffers));
  const auto is_written = sealed.find(first.root.block);
  if (is_written != sealed.end()) first.root.crc32c = is_written->second;
  const auto table = FILER_TRY(WriteTable(first, epoch, buffers));
  FILER_TRY(FlushIfCached(device_));

  // What the new tree uses is found by reading it: it is not believed before that.
  SpaceMap unit_map(layout_, uuid_);
  NodeSpace walked(layout_.node_first_block, space_.unit_count(), &unit_map);
  PageCache cache(kNodeLevelMax + 1);
  TreeWalk walk(reader_, cache, walked);
  FILER_TRY(walk.Mark(table));
  FILER_TRY(walk.Walk({first.root, first.level, epoch, 0, first.key_count, first.key_bytes}, {}));
  SetMap(unit_map.unit_words(), data_words);
  const auto map = FILER_TRY(map_.Write(device_, map_.TakeChanged(), epoch, buffers[0]));
  FILER_TRY(WriteLabel(device_, label_.label, label_.is_first_damaged, label_.is_copy_damaged));
  FILER_TRY(FlushIfCached(device_));

  Uberblock root = root_;
  root.epoch += 1;
  root.mount_epoch += 1;
  root.log_epoch = MixLogEpoch(uuid_, root.mount_epoch, clock_.RealtimeNs());
  root.log_head_position = 0;
  root.log_head_prev_crc32c = 0;
  root.checkpoint_lsn = last_lsn_;
  root.is_clean = 1;
  root.tree_epoch = epoch;
  std::fill(std::begin(root.table), std::end(root.table), NodePointer{});
  root.table[0] = table;
  root.table_piece_count = 1;
  root.node_count = walked.used_count();
  root.map_sum = map.sum;
  return WriteUberblock(device_, layout_, root, buffers[0]);
}

}  // namespace filer::engine
