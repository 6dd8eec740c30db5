#include "fsal/engine/tree/salvage.h"

#include <fmt/format.h>

#include <algorithm>

#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kNumbersPassedOver = 1 << 20;

Error SeveralTrees() {
  return Error(Errc::kNotSupported,
               "the volume has snapshots or several filesets: it is not repaired yet");
}

std::string BlockText(std::uint64_t block) { return fmt::format("block {}", block); }

}  // namespace

Salvage::Salvage(BlockDevice& device, const Clock& clock, const LoadedLabel& label)
    : device_(device),
      clock_(clock),
      label_(label),
      layout_(LayoutOf(label.label)),
      uuid_(ToUuid(label.label.volume_uuid)),
      reader_(device, layout_, uuid_),
      map_(layout_, uuid_),
      space_(layout_.node_first_block, layout_.node_block_count / kNodeBlocks) {}

Result<std::unique_ptr<Salvage>> Salvage::Open(BlockDevice& device, const Clock& clock) {
  const auto label = FILER_TRY(LoadLabel(device));
  if (label.label.ro_compat != 0) {
    return Error(Errc::kNewerVersion, "label: features of a newer release: not repaired");
  }
  std::unique_ptr<Salvage> salvage(new Salvage(device, clock, label));
  FILER_TRY(salvage->Load());
  return salvage;
}

Result<void> Salvage::Load() {
  if (label_.is_first_damaged) mends_.push_back({"the label is damaged", BlockText(0)});
  if (label_.is_copy_damaged) {
    mends_.push_back({"the copy of the label is damaged", BlockText(label_.label.block_count - 1)});
  }
  root_ = FILER_TRY(LoadUberblock(device_, layout_, uuid_));
  FILER_TRY(reader_.Start());
  is_map_sound_ = FILER_TRY(map_.Load(device_, root_.tree_epoch, root_.map_sum)) &&
                  map_.used_units() == root_.node_count;
  if (!is_map_sound_) mends_.push_back({"the map of used space is damaged", "map of used space"});
  FILER_TRY(ReadTable());
  file_count_ = first_.file_count;
  if (first_.root.block != 0) FILER_TRY(Walk(first_.root, first_.level, {}, {}));
  if (!lost_inner_.empty()) FILER_TRY(FindLostLeaves());
  std::sort(leaves_.begin(), leaves_.end(),
            [](const Leaf& left, const Leaf& right) { return left.first_key < right.first_key; });
  FILER_TRY(DropOverlaps());
  std::uint64_t key_count = 0;
  std::uint64_t key_bytes = 0;
  for (const Leaf& leaf : leaves_) {
    key_count += leaf.key_count;
    key_bytes += leaf.key_bytes;
  }
  const bool has_all = is_table_lost_
                           ? unreadable_units_ == 0
                           : key_count == first_.key_count && key_bytes == first_.key_bytes;
  for (const LostInner& inner : lost_inner_) {
    if (has_all) {
      mends_.push_back({inner.what + "; what lies below it was found", BlockText(inner.block)});
    } else {
      losses_.push_back({inner.what, BlockText(inner.block), inner.low, inner.high});
    }
  }
  if (!has_all && losses_.empty()) {
    mends_.push_back({"the counts of the metadata tree are wrong", "uberblock"});
  }
  if (is_map_sound_ && losses_.empty() && lost_inner_.empty() &&
      walked_units_ != map_.used_units()) {
    mends_.push_back({"the map of used space does not match the metadata", "map of used space"});
  }
  return ReadLog();
}

Result<void> Salvage::ReadTable() {
  TreeRecord lists;
  lists.kind = TreeKind::kLists;
  first_.id = first_.fileset = kFirstTree;
  first_.name = kFirstTreeName;
  first_.list = 1;
  table_.records = {lists, first_};
  std::string bytes;
  for (std::uint32_t at = 0; at < root_.table_piece_count; ++at) {
    const NodePointer& pointer = root_.table[at];
    if (!space_.Contains(pointer.block) || !space_.MarkUsed(pointer.block)) {
      return Error(Errc::kCorrupt, "the uberblock leads to no table of trees");
    }
    ++walked_units_;
    const auto piece = reader_.Read({pointer, kPieceLevel, {}, {}});
    if (piece.has_value()) {
      bytes.append(piece.value()->view().piece());
      continue;
    }
    if (piece.error() == Errc::kDeviceGone || piece.error() == Errc::kNoMemory) {
      return piece.error();
    }
    is_table_lost_ = true;
    lost_inner_.push_back({{},
                           {},
                           pointer.block,
                           "the table of trees is damaged: " + piece.error().message() +
                               " (snapshots that shared all with the fileset are lost)"});
  }
  if (root_.table_piece_count == 0) return Ok();
  if (!is_table_lost_) return TakeTable(bytes);
  // Numbers that were given out must not come again.
  table_.next_id = kNumbersPassedOver;
  table_.next_list = kNumbersPassedOver;
  return Ok();
}

Result<void> Salvage::TakeTable(std::string_view bytes) {
  table_ = FILER_TRY(DecodeTreeTable(bytes, layout_, root_.tree_epoch));
  const auto& records = table_.records;
  if (records.size() != 2 || records[0].root.block != 0 || records[1].kind != TreeKind::kLive ||
      records[1].fileset != kFirstTree) {
    return SeveralTrees();
  }
  first_ = records[1];
  return Ok();
}

// Errors: kDeviceGone, kNoMemory only.
Result<void> Salvage::Walk(const NodePointer& pointer, std::uint32_t level, std::string_view low,
                           std::string_view high) {
  const auto lose = [&](std::string what) {
    if (level > 0) {
      lost_inner_.push_back({std::string(low), std::string(high), pointer.block, std::move(what)});
    } else {
      losses_.push_back(
          {std::move(what), BlockText(pointer.block), std::string(low), std::string(high)});
    }
  };
  if (!space_.Contains(pointer.block)) {
    lose("a pointer leads outside of the node region");
    return Ok();
  }
  if (!space_.MarkUsed(pointer.block)) {
    lose("a metadata node has two parents");
    return Ok();
  }
  ++walked_units_;
  const auto page = reader_.Read({pointer, level, std::string(low), std::string(high)});
  if (!page.has_value()) {
    if (page.error() == Errc::kDeviceGone || page.error() == Errc::kNoMemory) return page.error();
    lose(page.error().message());
    return Ok();
  }
  const auto view = page.value()->view();
  if (view.is_leaf()) return TakeLeaf(*page.value(), pointer);
  for (std::size_t at = 0; at < view.count(); ++at) {
    const auto child_low = at == 0 ? low : view.key(at);
    const auto child_high = at + 1 < view.count() ? view.key(at + 1) : high;
    FILER_TRY(Walk(view.child(at), level - 1, child_low, child_high));
  }
  return Ok();
}

Result<void> Salvage::TakeLeaf(const Page& page, const NodePointer& pointer) {
  const auto view = page.view();
  Leaf leaf;
  leaf.pointer = pointer;
  leaf.first_key = view.key(0);
  leaf.last_key = view.key(view.count() - 1);
  leaf.key_count = view.count();
  for (std::size_t at = 0; at < view.count(); ++at) {
    const auto cell = view.leaf(at);
    leaf.key_bytes += cell.key.size() + cell.value_bytes;
    FILER_TRY(TakePieces(cell, leaf));
  }
  leaves_.push_back(std::move(leaf));
  return Ok();
}

// A value of which a piece is damaged, is lost.
Result<void> Salvage::TakePieces(const LeafCell& cell, Leaf& leaf) {
  std::optional<Loss> loss;
  std::size_t bytes = 0;
  for (std::size_t at = 0; at < PiecesOf(cell.value_bytes); ++at) {
    const auto pointer = PieceAt(cell, at);
    std::string what;
    if (!space_.Contains(pointer.block) || !space_.MarkUsed(pointer.block)) {
      what = "a piece of a value is where none can be";
    } else {
      ++walked_units_;
      leaf.pieces.push_back(pointer.block);
      const auto piece = reader_.Read({pointer, kPieceLevel, {}, {}});
      if (piece.has_value()) {
        bytes += piece.value()->view().piece().size();
        continue;
      }
      if (piece.error() == Errc::kDeviceGone || piece.error() == Errc::kNoMemory) {
        return piece.error();
      }
      what = piece.error().message();
    }
    if (!loss) loss = Loss{std::move(what), BlockText(pointer.block), {}, {}};
  }
  if (!loss && IsLongValue(cell.value_bytes) && bytes != cell.value_bytes) {
    loss = Loss{"the pieces of a value do not make up its length", {}, {}, {}};
  }
  if (!loss) return Ok();
  loss->low = cell.key;
  loss->high = std::string(cell.key) + '\0';
  changes_[loss->low] = std::nullopt;
  losses_.push_back(std::move(*loss));
  return Ok();
}

// Below inner nodes that are gone: what the map says is in use, and nothing was seen to lead to.
Result<void> Salvage::FindLostLeaves() {
  if (!is_map_sound_) {
    return Error(Errc::kCorrupt,
                 lost_inner_.front().what +
                     ", and the map of used space, by which what lies below it could be found, is "
                     "damaged, too: not repaired");
  }
  const auto words = map_.unit_words();
  std::vector<std::uint64_t> blocks;
  for (std::uint64_t unit = 0; unit < space_.unit_count(); ++unit) {
    if ((words[unit / 64] >> unit % 64 & 1) == 0) continue;
    const auto block = layout_.node_first_block + unit * kNodeBlocks;
    blocks.push_back(block);
  }
  // Nodes and pieces alike: what is marked already, was reached.
  std::vector<std::uint64_t> unreached;
  NodeSpace reached = space_;
  for (const auto block : blocks) {
    if (reached.MarkUsed(block)) unreached.push_back(block);
  }
  for (const auto block : unreached) {
    const auto leaf = FILER_TRY(FoundLeaf(block));
    if (!leaf) continue;
    const bool is_below = std::ranges::any_of(lost_inner_, [&](const LostInner& inner) {
      return leaf->first_key >= inner.low && (inner.high.empty() || leaf->last_key < inner.high);
    });
    if (!is_below || !space_.MarkUsed(block)) continue;
    // Keys of the file system begin with a letter, those of the lists of snapshots do not.
    if (leaf->first_key.front() < 'A' || leaf->first_key.front() > 'Z') return SeveralTrees();
    const auto page = FILER_TRY(reader_.Read({leaf->pointer, 0, {}, {}}));
    FILER_TRY(TakeLeaf(*page, leaf->pointer));
  }
  for (const auto block : unreached) static_cast<void>(space_.MarkUsed(block));
  return Ok();
}

Result<std::optional<Salvage::Leaf>> Salvage::FoundLeaf(std::uint64_t block) {
  std::vector<std::byte> bytes(kNodeBytes);
  const auto read = ReadBlocking(device_, block * kMetaBlockBytes, bytes);
  if (!read.has_value() && (read.error() == Errc::kDeviceGone || read.error() == Errc::kNoMemory)) {
    return read.error();
  }
  const auto header = LoadStruct<NodeHeader>(bytes);
  NodePointer pointer{};
  pointer.block = block;
  pointer.birth_epoch = header.birth_epoch;
  pointer.crc32c = header.crc32c;
  if (!read.has_value() || header.birth_epoch > root_.tree_epoch ||
      !CheckNode(bytes, uuid_, pointer, header.level).has_value()) {
    ++unreadable_units_;
    return std::optional<Leaf>();
  }
  if (header.level != 0 || !reader_.Read({pointer, 0, {}, {}}).has_value()) {
    return std::optional<Leaf>();
  }
  const NodeView view(bytes.data());
  Leaf leaf;
  leaf.pointer = pointer;
  leaf.first_key = view.key(0);
  leaf.last_key = view.key(view.count() - 1);
  return std::optional<Leaf>(std::move(leaf));
}

// Two leaves of one range: one of them is not of this tree any more (a write was lost). The younger
// one stays.
Result<void> Salvage::DropOverlaps() {
  std::vector<Leaf> kept;
  for (Leaf& leaf : leaves_) {
    if (kept.empty() || kept.back().last_key < leaf.first_key) {
      kept.push_back(std::move(leaf));
      continue;
    }
    if (is_table_lost_) return SeveralTrees();
    const bool is_younger = leaf.pointer.birth_epoch > kept.back().pointer.birth_epoch;
    if (is_younger) std::swap(kept.back(), leaf);
    losses_.push_back({"two metadata nodes hold the same keys", BlockText(leaf.pointer.block),
                       leaf.first_key, leaf.last_key + '\0'});
  }
  leaves_ = std::move(kept);
  return Ok();
}

Result<void> Salvage::ReadLog() {
  GroupPlace head;
  head.uuid = uuid_;
  head.log_epoch = root_.log_epoch;
  head.position = root_.log_head_position;
  head.first_lsn = root_.checkpoint_lsn + 1;
  head.prev_crc32c = root_.log_head_prev_crc32c;
  last_lsn_ = root_.checkpoint_lsn;
  const LogRing ring{layout_.log_first_block, layout_.log_block_count};
  const auto end =
      ReplayLog(device_, ring, head, [this](const GroupHeader& header, std::string_view payload) {
        return TakeGroup(header, payload);
      });
  if (end.has_value()) return Ok();
  if (end.error() == Errc::kNotSupported || end.error() == Errc::kDeviceGone ||
      end.error() == Errc::kNoMemory)
    return end.error();
  losses_.push_back(
      {end.error().message() + fmt::format("; what came after transaction {} is lost", last_lsn_),
       "log",
       {},
       {},
       true});
  return Ok();
}

Result<void> Salvage::TakeGroup(const GroupHeader& header, std::string_view payload) {
  for (std::uint64_t lsn = header.first_lsn; lsn <= header.last_lsn; ++lsn) {
    FILER_TRY(TakeTransactionOf(payload));
    last_lsn_ = lsn;
  }
  if (!payload.empty()) return Error(Errc::kCorrupt, "log: more bytes than transactions");
  return Ok();
}

Result<void> Salvage::TakeTransactionOf(std::string_view& payload) {
  auto view = FILER_TRY(TakeTransaction(payload));
  std::vector<Pair> pairs;
  for (std::uint32_t change = 0; change < view.change_count; ++change) {
    const auto pair = FILER_TRY(TakePair(view.pairs));
    if (!pair) return Error(Errc::kCorrupt, "log: a change is cut short");
    pairs.push_back(*pair);
  }
  if (!view.pairs.empty()) return Error(Errc::kCorrupt, "log: more bytes than changes");
  if (is_table_lost_ && changes_.empty() && view.tree != kListTree) first_.id = view.tree;
  if (view.tree != first_.id || !view.buried.empty() || !view.nodes.empty()) return SeveralTrees();
  for (const Pair& pair : pairs) {
    std::optional<std::string> value;
    if (pair.value) value.emplace(*pair.value);
    changes_[std::string(pair.key)] = std::move(value);
  }
  // Where they contradict the map, the extents have the last word.
  for (const auto& run : view.used) map_.Use(run);
  for (const auto& run : view.dropped) map_.Drop(run);
  file_count_ += static_cast<std::uint64_t>(std::int64_t{view.file_delta});
  return Ok();
}

StoreGeometry Salvage::Geometry() const {
  StoreGeometry geometry;
  std::copy(uuid_.begin(), uuid_.end(), geometry.volume_uuid);
  geometry.block_count = layout_.block_count;
  geometry.data_first_block = layout_.data_first_block;
  geometry.data_block_count = layout_.data_block_count;
  geometry.log_bytes = layout_.log_block_count * kMetaBlockBytes;
  return geometry;
}

std::vector<std::uint8_t> Salvage::HandleKey() const {
  return {std::begin(label_.label.handle_key), std::end(label_.label.handle_key)};
}

bool Salvage::DoesMapSay(std::span<const std::uint64_t> data_words) const {
  return is_map_sound_ && std::ranges::equal(map_.data_words(), data_words);
}

void Salvage::Put(std::string key, std::string value) {
  changes_[std::move(key)] = std::move(value);
  has_changes_ = true;
}

void Salvage::Erase(std::string key) {
  changes_[std::move(key)] = std::nullopt;
  has_changes_ = true;
}

}  // namespace filer::engine
