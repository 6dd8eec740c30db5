// structures_fuzz.cc: every decoder of what is on a volume, on structures of which some bytes were
// changed and the checksums mended. What a decoder lets through is used as the engine uses it, and
// must be what its header promises.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/format/space_block.h"
#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/format/uberblock.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/page.h"
#include "fsal/engine/tree/space_map.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/patches.h"

namespace filer::fuzz {
namespace {

using namespace filer::engine;  // NOLINT

constexpr VolumeUuid kUuid{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr std::uint64_t kDeviceBlocks = 32768;  // 128 MiB
constexpr std::uint32_t kPatchesMax = 12;

VolumeLayout Layout() { return PlanVolume(kDeviceBlocks * kMetaBlockBytes).value(); }

template <DiskStruct T>
std::span<std::byte> BytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

void FuzzLabel(FuzzInput& input) {
  const std::uint8_t key[16] = {7};
  auto label = MakeLabel(Layout(), "volume", kUuid, key);
  Patch(input, BytesOf(label), kPatchesMax);
  if (!input.Flip()) label.magic = kLabelMagic;
  Seal(label);
  const auto decoded = DecodeLabel(BytesOf(label), 0, kDeviceBlocks);
  if (!decoded.has_value()) return;
  FILER_ASSERT(IsVolumeName(VolumeNameOf(decoded.value())));
  const auto layout = LayoutOf(decoded.value());
  FILER_ASSERT(layout.block_count <= kDeviceBlocks);
  std::uint64_t end = 1;
  const auto follows = [&](std::uint64_t first, std::uint64_t count) {
    FILER_ASSERT(first >= end && count < layout.block_count);
    end = first + count;
    FILER_ASSERT(end < layout.block_count);
  };
  follows(layout.uberblock_first_block, kUberblockRings * kUberblocksPerRing);
  follows(layout.log_first_block, layout.log_block_count);
  follows(layout.node_first_block, layout.node_block_count);
  follows(layout.map_first_block, layout.map_block_count);
  follows(layout.data_first_block, layout.data_block_count);
  const auto units = layout.node_block_count / kNodeBlocks;
  FILER_ASSERT(2 * (SpaceBlocksFor(units) + SpaceBlocksFor(layout.data_block_count)) <=
               layout.map_block_count);
}

void FuzzUberblock(FuzzInput& input) {
  const auto layout = Layout();
  Uberblock root{};
  root.magic = kUberblockMagic;
  root.version = kFormatVersion;
  std::copy(kUuid.begin(), kUuid.end(), root.volume_uuid);
  root.epoch = 5;
  root.own_block = UberblockBlock(layout, 1, root.epoch);
  root.mount_epoch = 2;
  root.log_epoch = 99;
  root.tree_epoch = 4;
  root.node_count = 10;
  root.table_piece_count = 2;
  for (std::uint32_t at = 0; at < 2; ++at) {
    root.table[at].block = layout.node_first_block + at * kNodeBlocks;
    root.table[at].birth_epoch = 4;
  }
  const std::uint64_t block = root.own_block;
  Patch(input, BytesOf(root), kPatchesMax);
  Seal(root);
  const auto decoded = DecodeUberblock(BytesOf(root), layout, kUuid, block);
  if (!decoded.has_value()) return;
  const auto& found = decoded.value();
  FILER_ASSERT(found.epoch != 0 && found.epoch <= kEpochMax && found.tree_epoch <= kEpochMax);
  FILER_ASSERT(found.checkpoint_lsn < kLsnMax && found.table_piece_count <= kTablePiecesMax);
  for (std::uint32_t at = 0; at < found.table_piece_count; ++at) {
    const std::uint64_t piece = found.table[at].block;
    FILER_ASSERT(found.table[at].birth_epoch <= found.tree_epoch);
    FILER_ASSERT(piece >= layout.node_first_block);
    FILER_ASSERT(piece - layout.node_first_block <= layout.node_block_count - kNodeBlocks);
  }
}

std::string TransactionOf(FuzzInput& input) {
  std::string pairs;
  const auto count = input.Below(5);
  for (std::uint32_t at = 0; at < count; ++at) {
    const std::string key(1 + input.Below(40), static_cast<char>('a' + at));
    const std::string value(input.Below(60), 'v');
    AppendPair(pairs, key, input.Flip() ? std::nullopt : std::optional<std::string_view>(value));
  }
  TransactionHeader header{};
  header.change_count = count;
  header.pair_bytes = static_cast<std::uint32_t>(pairs.size());
  header.run_count = input.Below(4);
  for (std::uint32_t at = 0; at < header.run_count; ++at) {
    const BlockRun run{input.Take<std::uint16_t>(), input.Take<std::uint8_t>()};
    AppendRun(pairs, run, input.Flip() ? kRunUsed : kRunDropped);
  }
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + pairs;
}

// As recovery reads a group's payload.
void ReadTransactions(std::string_view payload) {
  while (!payload.empty()) {
    const auto before = payload.size();
    auto taken = TakeTransaction(payload);
    if (!taken.has_value()) return;
    FILER_ASSERT(payload.size() < before);
    auto& view = taken.value();
    FILER_ASSERT((view.used.size() + view.dropped.size()) * sizeof(RunRecord) < before);
    static_cast<void>(DoOverlap(view.used, view.dropped));
    for (std::uint32_t change = 0; change < view.change_count; ++change) {
      const auto whole = view.pairs;
      const auto pair = TakePair(view.pairs);
      if (!pair.has_value() || !pair.value()) break;
      std::string again;
      AppendPair(again, pair.value()->key, pair.value()->value);
      FILER_ASSERT(whole.substr(0, whole.size() - view.pairs.size()) == again);
    }
  }
}

void FuzzGroup(FuzzInput& input) {
  std::string payload;
  const auto transactions = 1 + input.Below(4);
  for (std::uint32_t at = 0; at < transactions; ++at) payload += TransactionOf(input);
  std::vector<std::byte> group(GroupBytes(payload.size()));
  std::memcpy(group.data() + sizeof(GroupHeader), payload.data(), payload.size());
  GroupPlace place;
  place.uuid = kUuid;
  place.log_epoch = 99;
  place.first_lsn = 17;
  SealGroup(group, place, 16 + transactions, 3, static_cast<std::uint32_t>(payload.size()));
  Patch(input, group, kPatchesMax);
  auto header = LoadStruct<GroupHeader>(group);
  header.payload_crc32c = Crc32c(std::span(group).subspan(sizeof(header)));
  Seal(header);
  StoreStruct(group, header);
  const auto decoded = DecodeGroupHeader(group, kUuid, place.log_epoch);
  if (!decoded.has_value()) return;
  const auto& found = decoded.value();
  FILER_ASSERT(GroupBytes(found.payload_bytes) <= kGroupBytesMax);
  FILER_ASSERT(found.first_lsn <= found.last_lsn && found.last_lsn <= kLsnMax);
  static_cast<void>(IsNextGroup(found, place));
  if (!IsPayloadSound(found, group)) return;
  // Memory of its own, so that a read past its end is seen.
  const std::string alone(reinterpret_cast<const char*>(group.data()) + sizeof(header),
                          found.payload_bytes);
  ReadTransactions(alone);
}

void FuzzSpaceBlock(FuzzInput& input) {
  SpaceBlock block{};
  block.magic = kSpaceBlockMagic;
  block.version = kFormatVersion;
  std::copy(kUuid.begin(), kUuid.end(), block.volume_uuid);
  block.index = 1;
  const auto layout = Layout();
  Patch(input, BytesOf(block), kPatchesMax);
  Seal(block);
  if (!IsSpaceBlock(block, kUuid, 1)) return;
  FILER_ASSERT(block.index == 1 && SpaceBlockPlace(layout, block.index, 1) <
                                       layout.map_first_block + layout.map_block_count);
}

NodePointer PointerAt(std::uint64_t number) {
  NodePointer pointer{};
  pointer.block = 4096 + number * kNodeBlocks;
  pointer.birth_epoch = 3;
  pointer.crc32c = static_cast<std::uint32_t>(number);
  return pointer;
}

std::unique_ptr<Page> MakeNode(FuzzInput& input, std::uint32_t level) {
  auto made = std::make_unique<Page>(kUuid, level, 4096, 4);
  auto& page = *made;
  if (level == kPieceLevel) {
    page.SetPiece(std::string(1 + input.Take<std::uint16_t>() % kPieceBytesMax, 'p'));
    return made;
  }
  const auto count = 1 + input.Below(12);
  for (std::uint32_t at = 0; at < count; ++at) {
    std::string key = "key" + std::string(1, static_cast<char>('a' + at));
    key.append(input.Below(64) * 8, 'k');
    if (level > 0) {
      if (!page.Insert(at, InnerCellOf(at == 0 ? std::string_view() : key, PointerAt(at)))) break;
      continue;
    }
    const auto length = input.Below(4) == 0 ? kInlineValueBytesMax + 1 + input.Below(200) * 600
                                            : input.Below(200) * 10;
    std::string stored(StoredValueBytes(length), 'v');
    if (!page.Insert(at, LeafCellOf(key, static_cast<std::uint32_t>(length), stored))) break;
  }
  return made;
}

void ReadNode(const NodeView& view) {
  std::string_view before;
  for (std::size_t at = 0; at < view.count(); ++at) {
    const auto key = view.key(at);
    FILER_ASSERT(at == 0 || before < key);
    before = key;
    FILER_ASSERT(view.LowerBound(key) == at);
    const std::string cell(view.cell(at));
    if (!view.is_leaf()) {
      FILER_ASSERT(view.ChildFor(key) == at);
      static_cast<void>(view.child(at));
      continue;
    }
    const auto leaf = view.leaf(at);
    FILER_ASSERT(LeafCellOf(leaf.key, leaf.value_bytes, leaf.stored) == cell);
    for (std::size_t piece = 0; piece < PiecesOf(leaf.value_bytes); ++piece) {
      static_cast<void>(PieceAt(leaf, piece));
    }
  }
}

// As the tree changes a node that it has read and copied.
void ChangeNode(FuzzInput& input, Page& page) {
  Page right(kUuid, page.level(), 8192, 5);
  for (int step = 0; step < 200; ++step) {
    const auto count = page.view().count();
    const std::string key = "key" + std::string(input.Below(250) * 2, 'm');
    auto at = page.view().LowerBound(key);
    if (page.view().is_leaf()) {
      if (at < count && page.view().key(at) == key) page.Remove(at);
      const std::string value(input.Below(200) * 10, 'w');
      const auto cell = LeafCellOf(key, static_cast<std::uint32_t>(value.size()), value);
      if (page.Insert(at, cell)) continue;
    } else {
      at = page.view().ChildFor(key) + 1;
      if (page.view().key(at - 1) == key) continue;
      if (page.Insert(at, InnerCellOf(key, PointerAt(at)))) continue;
    }
    page.MoveTail(page.SplitPoint(), right);
    break;
  }
  ReadNode(page.view());
  if (right.view().count() > 0) ReadNode(right.view());
}

void FuzzNode(FuzzInput& input) {
  const std::uint32_t levels[] = {0, 0, 1, 2, kPieceLevel};
  const auto level = input.Pick(levels);
  const auto made = MakeNode(input, level);
  Patch(input, made->bytes(), kPatchesMax);
  NodePointer pointer{};
  pointer.block = 4096;
  pointer.birth_epoch = 4;
  pointer.crc32c = SealNode(made->bytes());
  if (!CheckNode(made->bytes(), kUuid, pointer, level).has_value()) return;
  // Memory of its own, so that a read past its end is seen.
  const auto page = std::make_unique<Page>();
  std::memcpy(page->bytes().data(), made->bytes().data(), kNodeBytes);
  page->Adopt();
  if (level == kPieceLevel) {
    const std::string piece(page->view().piece());
    FILER_ASSERT(!piece.empty() && piece.size() <= kPieceBytesMax);
    return;
  }
  ReadNode(page->view());
  ChangeNode(input, *page);
}

// Some bytes of a sound value changed, then cut or made longer.
std::string Changed(FuzzInput& input, std::string bytes) {
  Patch(input, std::as_writable_bytes(std::span(bytes)), kPatchesMax / 2);
  if (input.Below(4) == 1) bytes.resize(input.Take<std::uint16_t>() % (bytes.size() + 40));
  bytes.shrink_to_fit();
  return bytes;
}

// What decodes is what was encoded: every byte has a meaning, and is checked.
template <typename Decode, typename Encode>
void FuzzValue(FuzzInput& input, const std::string& sound, const Decode& decode,
               const Encode& encode) {
  FILER_ASSERT(decode(sound).has_value());
  const auto bytes = Changed(input, sound);
  const auto decoded = decode(bytes);
  if (decoded.has_value()) FILER_ASSERT(encode(decoded.value()) == bytes);
}

void FuzzInode(FuzzInput& input) {
  InodeRecord record;
  record.kind = static_cast<NodeKind>(1 + input.Below(7));
  record.mode = 0644;
  record.size = 12345;
  record.has_verifier = input.Flip();
  record.symlink = std::string(input.Below(100), 't');
  FuzzValue(input, EncodeInode(record), DecodeInode, EncodeInode);
}

// A fileset with a snapshot and a clone, and what is left of another.
void FuzzTreeTable(FuzzInput& input) {
  const auto layout = Layout();
  constexpr std::uint64_t kTreeEpoch = 9;
  constexpr TreeKind kKinds[] = {TreeKind::kLists, TreeKind::kLive, TreeKind::kSnapshot,
                                 TreeKind::kLive, TreeKind::kDeadTree};
  TreeTable table;
  for (TreeId id = 0; id < std::size(kKinds); ++id) {
    TreeRecord record;
    record.id = id;
    record.kind = kKinds[id];
    record.fileset = id == 0 ? 0 : id == 2 ? 1 : id;
    record.origin = id == 3 ? 2 : 0;
    record.root.block = layout.node_first_block + id * kNodeBlocks;
    record.root.birth_epoch = 4;
    record.key_count = record.key_bytes = 7;
    record.epoch = record.shared_epoch = 5;
    record.list = id == 0 ? 0 : 1;
    record.name = id == 0 ? "" : "tree" + std::to_string(id) + std::string(input.Below(30), 't');
    table.records.push_back(record);
  }
  table.next_id = std::size(kKinds);
  const auto bytes = Changed(input, EncodeTreeTable(table));
  const auto decoded = DecodeTreeTable(bytes, layout, kTreeEpoch);
  if (!decoded.has_value()) return;
  const auto& found = decoded.value();
  FILER_ASSERT(!found.records.empty() && found.records.size() <= kTreesMax);
  FILER_ASSERT(EncodedTreeTableBytes(found.records.size()) == bytes.size());
  for (const TreeRecord& record : found.records) {
    FILER_ASSERT(record.id < found.next_id && record.list < found.next_list);
    FILER_ASSERT(record.level <= kNodeLevelMax && record.root.birth_epoch <= kTreeEpoch);
    if (record.root.block == 0) continue;
    FILER_ASSERT(record.root.block >= layout.node_first_block);
    FILER_ASSERT(record.root.block - layout.node_first_block <=
                 layout.node_block_count - kNodeBlocks);
  }
  // Again the same: nothing that a decoder lets through is lost by the next checkpoint.
  const auto again = EncodeTreeTable(found);
  const auto twice = DecodeTreeTable(again, layout, kTreeEpoch);
  FILER_ASSERT(twice.has_value() && EncodeTreeTable(twice.value()) == again);
}

void FuzzEntry(FuzzInput& input) {
  EntryValue entry{77, NodeKind::kFile, "name" + std::string(input.Below(252), 'n')};
  FuzzValue(input, EncodeEntry(entry), DecodeEntry, EncodeEntry);
  FuzzValue(input, EncodeName(NameValue{9, entry}), DecodeName, EncodeName);
}

void FuzzExtent(FuzzInput& input) {
  Extent extent;
  extent.file_block = input.Take<std::uint16_t>();
  extent.physical = 5000;
  extent.birth = 3;
  extent.is_unwritten = input.Flip();
  extent.length = 1 + input.Below(20);
  if (!extent.is_unwritten) extent.checksums.assign(extent.length, 0x12345678);
  const auto key = Changed(input, ExtentKey(42, extent.file_block));
  const auto bytes = Changed(input, EncodeExtent(extent));
  const auto decoded = DecodeExtent(key, bytes);
  if (!decoded.has_value()) return;
  const auto& found = decoded.value();
  FILER_ASSERT(EncodeExtent(found) == bytes);
  FILER_ASSERT(ExtentKey(KeyInteger(key, 0).value(), found.file_block).substr(1) == key.substr(1));
  FILER_ASSERT(found.length > 0 && found.end() <= kFileBytesMax / kMetaBlockBytes);
  FILER_ASSERT(found.physical + found.length > found.physical);
}

void FuzzCounter(FuzzInput& input) {
  FuzzValue(input, EncodeCounter(input.Take<std::uint64_t>()), DecodeCounter, EncodeCounter);
  const auto key = Changed(input, InodeKey(42));
  for (std::size_t index = 0; index < 4; ++index) static_cast<void>(KeyInteger(key, index));
  static_cast<void>(ValidateName(key));
}

}  // namespace

void FuzzOne(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  switch (input.Below(10)) {
    case 9:
      return FuzzTreeTable(input);
    case 8:
      return FuzzSpaceBlock(input);
    case 0:
      return FuzzLabel(input);
    case 1:
      return FuzzUberblock(input);
    case 2:
      return FuzzGroup(input);
    case 3:
      return FuzzInode(input);
    case 4:
      return FuzzEntry(input);
    case 5:
      return FuzzExtent(input);
    case 6:
      return FuzzCounter(input);
    default:
      return FuzzNode(input);
  }
}

}  // namespace filer::fuzz
