#include "tests/fuzz/image_volume.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/assert.h"
#include "base/crc32c.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/format/space_block.h"
#include "fsal/engine/log/log_ring.h"
#include "fsal/engine/tree/volume.h"
#include "tests/fuzz/patches.h"
#include "tests/unit/fsal/engine/tree/forged_table.h"

namespace filer::fuzz {
namespace {

using namespace filer::engine;  // NOLINT

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;
constexpr int kDepthMax = 40;
constexpr std::size_t kGroupsMax = 64;

// Names, files and attributes of every kind; enough of them for a tree of two levels.
class Author {
 public:
  Author(Engine& engine, NodeId directory) : engine_(engine), last_directory_(directory) {}

  NodeId Make(NodeId directory, const std::string& name, NodeKind kind = NodeKind::kFile) {
    CreateOptions options;
    options.kind = kind;
    options.attributes.mode = 0755;
    if (kind == NodeKind::kSymlink) options.symlink_target = "a/b/c";
    return engine_.Create(Caller{}, directory, name, options).value().node.id;
  }
  void Write(NodeId file, std::uint64_t offset, std::size_t length) {
    std::string bytes(length, static_cast<char>('a' + file.inode % 26));
    const iovec data{bytes.data(), bytes.size()};
    FILER_ASSERT(engine_.Write(file, offset, {&data, 1}, Stability::kUnstable).has_value());
  }
  void SetXattr(NodeId node, const std::string& name, std::size_t length) {
    FILER_ASSERT(engine_
                     .SetXattr(Caller{}, node, name, std::string(length, 'x'),
                               Engine::XattrMode::kCreateOrReplace)
                     .has_value());
  }

  void BeforeCheckpoint() {
    auto directory = engine_.Root();
    for (int depth = 0; depth < 4; ++depth) {
      directory = Make(directory, "d" + std::to_string(depth), NodeKind::kDirectory);
      Make(directory, "link", NodeKind::kSymlink);
    }
    for (int at = 0; at < 150; ++at) {
      const auto file = Make(directory, "file-" + std::to_string(at) + std::string(at % 60, 'f'));
      if (at % 10 == 0) Write(file, 0, 5000 + static_cast<std::size_t>(at) * 100);
    }
    const auto sparse = Make(directory, "sparse");
    for (std::uint64_t at = 0; at < 6; ++at) Write(sparse, at * 40'960, 4096);
    FILER_ASSERT(engine_.Allocate(Caller{}, sparse, 1 << 20, 1 << 18, false).has_value());
    FILER_ASSERT(engine_.Link(Caller{}, sparse, engine_.Root(), "second").has_value());
    SetXattr(sparse, "user.short", 20);
    SetXattr(sparse, "user.long", 40'000);
  }

  void AfterCheckpoint() {
    for (int at = 0; at < 10; ++at) {
      const auto file = Make(last_directory_, "late-" + std::to_string(at));
      Write(file, 0, 9000);
      FILER_ASSERT(engine_.SyncAll().has_value());  // a group of the log each
    }
    FILER_ASSERT(
        engine_.Remove(Caller{}, last_directory_, "file-1f", RemoveKind::kAny).has_value());
    SetXattr(last_directory_, "user.late", 3000);
    FILER_ASSERT(engine_.SyncAll().has_value());
  }

 private:
  Engine& engine_;
  const NodeId last_directory_;
};

template <DiskStruct T>
T LoadAt(const SimImage& image, std::uint64_t offset_bytes) {
  T value;
  image.Read(offset_bytes, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

template <DiskStruct T>
void StoreAt(SimImage& image, std::uint64_t offset_bytes, const T& value) {
  image.Write(offset_bytes, std::as_bytes(std::span(&value, 1)));
}

PreparedVolume Prepare() {
  ManualClock clock;
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  const auto device = SimDevice::Create(options).value();
  FormatOptions format;
  format.volume_name = "fuzz";
  format.random_seed = 3;
  format.clock = &clock;
  FILER_ASSERT(Engine::Format(*device, format).has_value());
  MountOptions quiet;
  quiet.checkpoint_interval_ms = UINT32_MAX;
  auto engine = Engine::Mount(*device, clock, quiet).value();
  Author(*engine, engine->Root()).BeforeCheckpoint();
  FILER_ASSERT(engine->Unmount().has_value());
  engine.reset();
  engine = Engine::Mount(*device, clock, quiet).value();
  auto directory = engine->Root();
  for (int depth = 0; depth < 4; ++depth) {
    directory = engine->Lookup(directory, "d" + std::to_string(depth)).value().id;
  }
  Author(*engine, directory).AfterCheckpoint();
  engine.reset();

  PreparedVolume prepared{device->CurrentImage(), {}};
  auto& map = prepared.map;
  const auto label = LoadLabel(*device).value().label;
  map.layout = LayoutOf(label);
  map.uuid = ToUuid(label.volume_uuid);
  const auto root = LoadUberblock(*device, map.layout, map.uuid).value();
  for (std::uint32_t ring = 0; ring < kUberblockRings; ++ring) {
    map.uberblocks[ring] = UberblockBlock(map.layout, ring, root.epoch);
  }
  ImageMender mender(prepared.image, map);
  mender.MendTree(true);
  mender.MendLog();
  // What was sound is sound: the mender knows the format.
  FILER_ASSERT(prepared.image.SameContents(device->CurrentImage()));
  FILER_ASSERT(map.nodes.size() > 5 && map.groups.size() > 5);
  return prepared;
}

std::uint64_t MapBlocksOf(const VolumeLayout& layout) {
  return SpaceBlocksFor(layout.node_block_count / kNodeBlocks) +
         SpaceBlocksFor(layout.data_block_count);
}

// Block of the device that holds block `index` of the map as of the newest uberblock.
std::optional<std::uint64_t> NewestMapPlace(const SimImage& image, const ImageMap& map,
                                            std::uint64_t index) {
  const auto root = LoadAt<Uberblock>(image, map.uberblocks[0] * kMetaBlockBytes);
  std::optional<std::uint64_t> newest;
  std::uint64_t newest_epoch = 0;
  for (const std::uint32_t place : {0U, 1U}) {
    const auto at = SpaceBlockPlace(map.layout, index, place);
    const auto block = LoadAt<SpaceBlock>(image, at * kMetaBlockBytes);
    if (!IsSpaceBlock(block, map.uuid, index) || block.epoch > root.tree_epoch) continue;
    if (newest && block.epoch < newest_epoch) continue;
    newest = at;
    newest_epoch = block.epoch;
  }
  return newest;
}

std::uint64_t SumOfMap(const SimImage& image, const ImageMap& map) {
  std::uint64_t sum = 0;
  for (std::uint64_t index = 0; index < MapBlocksOf(map.layout); ++index) {
    const auto place = NewestMapPlace(image, map, index);
    if (!place) continue;
    sum += SpaceBlockSum(index, LoadAt<SpaceBlock>(image, *place * kMetaBlockBytes).crc32c);
  }
  return sum;
}

std::size_t SlotOf(std::span<const std::byte> node, std::size_t at) {
  le16 slot;
  std::memcpy(&slot, node.data() + sizeof(NodeHeader) + at * kSlotBytes, sizeof(slot));
  return slot;
}

using NodeBytes = std::vector<std::byte>;

NodeBytes LoadNode(const SimImage& image, std::uint64_t block) {
  NodeBytes node(kNodeBytes);
  image.Read(block * kMetaBlockBytes, node);
  return node;
}

// What of a node is to be changed: the value of one cell more often than the cell, or all.
std::span<std::byte> PartOf(FuzzInput& input, std::span<std::byte> node, std::uint32_t level) {
  const std::size_t count = LoadStruct<NodeHeader>(node).count;
  const auto choice = input.Below(8);
  if (choice == 0 || level == kPieceLevel || count == 0 || count > 4000) return node;
  auto offset = SlotOf(node, input.Take<std::uint16_t>() % count);
  if (choice > 2 && level == 0 && offset + sizeof(LeafCellHeader) <= node.size()) {
    const auto cell = LoadStruct<LeafCellHeader>(node.subspan(offset));
    offset += sizeof(cell) + cell.key_bytes;
  }
  if (offset >= node.size()) return node;
  return node.subspan(offset, std::min<std::size_t>(node.size() - offset, 160));
}

void ChangeNode(FuzzInput& input, SimImage& image, const ImageMap& map) {
  const auto& chosen = map.nodes[input.Take<std::uint8_t>() % map.nodes.size()];
  auto node = LoadNode(image, chosen.pointer.block);
  PatchOnce(input, PartOf(input, node, chosen.level));
  image.Write(chosen.pointer.block * kMetaBlockBytes, node);
}

// Born when it cannot have been, or too many cells.
void ChangeHeader(FuzzInput& input, SimImage& image, const ImageMap& map) {
  const auto& chosen = map.nodes[input.Take<std::uint8_t>() % map.nodes.size()];
  auto node = LoadNode(image, chosen.pointer.block);
  auto header = LoadStruct<NodeHeader>(node);
  switch (input.Below(4)) {
    case 0:
      header.count = static_cast<std::uint32_t>(TakeNumber(input));
      break;
    case 1:
      header.heap_offset = static_cast<std::uint32_t>(TakeNumber(input));
      break;
    case 2:
      header.birth_epoch = TakeNumber(input);
      break;
    default:
      header.birth_epoch += input.Below(8);
  }
  StoreStruct(std::span(node), header);
  image.Write(chosen.pointer.block * kMetaBlockBytes, node);
}

// A pointer leads to another node of the tree.
void ChangePointer(FuzzInput& input, SimImage& image, const ImageMap& map) {
  const auto& from = map.nodes[input.Take<std::uint8_t>() % map.nodes.size()];
  const auto& to = map.nodes[input.Take<std::uint8_t>() % map.nodes.size()];
  auto node = LoadNode(image, from.pointer.block);
  const std::size_t count = LoadStruct<NodeHeader>(node).count;
  if (from.level == kPieceLevel || count == 0 || count > 4000) return;
  auto offset = SlotOf(node, input.Take<std::uint16_t>() % count);
  if (from.level == 0) {
    if (offset + sizeof(LeafCellHeader) > node.size()) return;
    const auto cell = LoadStruct<LeafCellHeader>(std::span(node).subspan(offset));
    if (!IsLongValue(cell.value_bytes)) return;
    offset += sizeof(cell) + cell.key_bytes;
  } else {
    offset += offsetof(InnerCellHeader, child);
  }
  if (offset + sizeof(NodePointer) > node.size()) return;
  StoreStruct(std::span(node).subspan(offset), to.pointer);
  image.Write(from.pointer.block * kMetaBlockBytes, node);
}

void ChangeBytes(FuzzInput& input, SimImage& image, std::uint64_t offset_bytes,
                 std::size_t length) {
  std::vector<std::byte> bytes(length);
  image.Read(offset_bytes, bytes);
  PatchOnce(input, bytes);
  image.Write(offset_bytes, bytes);
}

void ChangeLabel(FuzzInput& input, SimImage& image, const ImageMap& map) {
  ChangeBytes(input, image, 0, sizeof(Label));
  auto label = LoadAt<Label>(image, 0);
  Seal(label);
  StoreAt(image, 0, label);
  if (input.Flip()) return;
  label.own_block = map.layout.block_count - 1;
  Seal(label);
  StoreAt(image, (map.layout.block_count - 1) * kMetaBlockBytes, label);
}

// Bits of the map of used space; the uberblock's sum is mended.
void ChangeMap(FuzzInput& input, SimImage& image, const ImageMap& map) {
  const auto index = input.Below(
      static_cast<std::uint32_t>(std::min<std::uint64_t>(MapBlocksOf(map.layout), 255)));
  const auto place = NewestMapPlace(image, map, index);
  if (!place) return;
  auto block = LoadAt<SpaceBlock>(image, *place * kMetaBlockBytes);
  if (input.Below(4) == 0) {
    PatchOnce(input, std::as_writable_bytes(std::span(&block, 1)));
  } else {
    // The bits that stand for something lie at its beginning.
    const auto at = TakePlace(input, 64);
    block.words[at] = block.words[at] ^ TakeNumber(input);
  }
  Seal(block);
  StoreAt(image, *place * kMetaBlockBytes, block);
}

// What it says about the trees.
void ChangeTable(FuzzInput& input, SimImage& image, const ImageMap& map) {
  const std::uint64_t at = map.table_block * kMetaBlockBytes;
  const auto header = LoadAt<NodeHeader>(image, at);
  ChangeBytes(input, image, at + sizeof(header),
              std::clamp<std::size_t>(header.count, 1, kPieceBytesMax));
}

// Nothing of it is mended.
void DamageBlock(FuzzInput& input, SimImage& image) {
  ChangeBytes(input, image,
              input.Take<std::uint32_t>() % (kVolumeBytes / kMetaBlockBytes) * kMetaBlockBytes,
              kMetaBlockBytes);
}

}  // namespace

const PreparedVolume& Prepared() {
  static const PreparedVolume prepared = Prepare();
  return prepared;
}

void ChangeImage(FuzzInput& input, SimImage& image) {
  const auto& map = Prepared().map;
  const bool with_counts = input.Below(4) != 0;
  for (int step = 0; step < 6 && !input.is_empty(); ++step) {
    switch (input.Below(16)) {
      case 0:
        ChangeBytes(input, image, map.uberblocks[0] * kMetaBlockBytes, 200);
        break;
      case 1: {
        const auto& group = map.groups[input.Below(static_cast<std::uint32_t>(map.groups.size()))];
        ChangeBytes(input, image, group.offset_bytes, group.length_bytes);
        break;
      }
      case 2:
        ChangePointer(input, image, map);
        break;
      case 3:
        ChangeLabel(input, image, map);
        break;
      case 4:
      case 5:
        ChangeHeader(input, image, map);
        break;
      case 6:
        ChangeMap(input, image, map);
        break;
      case 7:
        ChangeTable(input, image, map);
        break;
      default:
        ChangeNode(input, image, map);
    }
  }
  auto changed = map;
  ImageMender mender(image, changed);
  mender.MendTree(with_counts);
  mender.MendLog();
  if (!input.is_empty()) DamageBlock(input, image);
}

void ImageMender::MendTree(bool with_counts) {
  auto root = LoadAt<Uberblock>(image_, map_.uberblocks[0] * kMetaBlockBytes);
  map_.nodes.clear();
  auto table = LoadTable(image_, map_.layout, root);
  if (table.has_value()) {
    for (TreeRecord& record : table.value().records) {
      key_count_ = key_bytes_ = 0;
      if (record.root.block != 0) MendNode(record.root, record.level, 0);
      if (!with_counts) continue;
      record.key_count = key_count_;
      record.key_bytes = key_bytes_;
    }
    StoreTable(image_, table.value(), root);
  }
  // Or one that does not decode, with a checksum that is right.
  MendNode(root.table[0], kPieceLevel, 0);
  map_.table_block = root.table[0].block;
  if (with_counts) {
    root.map_sum = SumOfMap(image_, map_);
    root.node_count = mended_.size();
  }
  for (const auto block : map_.uberblocks) {
    root.own_block = block;
    Seal(root);
    StoreAt(image_, block * kMetaBlockBytes, root);
  }
}

// Whatever is there: the node may be another's, or an own ancestor.
void ImageMender::MendNode(NodePointer& pointer, std::uint32_t level, int depth) {
  const std::uint64_t block = pointer.block;
  const auto& layout = map_.layout;
  if (depth > kDepthMax || block < layout.node_first_block ||
      block - layout.node_first_block > layout.node_block_count - kNodeBlocks) {
    return;
  }
  const auto found = mended_.find(block);
  if (found != mended_.end()) {
    pointer = found->second;
    return;
  }
  mended_[block] = pointer;
  map_.nodes.push_back({pointer, level});
  const auto at = map_.nodes.size() - 1;
  auto node = LoadNode(image_, block);
  const auto header = LoadStruct<NodeHeader>(node);
  const std::size_t count = std::min<std::size_t>(header.count, 4000);
  for (std::size_t cell = 0; cell < count && level != kPieceLevel; ++cell) {
    const auto offset = SlotOf(node, cell);
    if (level == 0) {
      MendLeaf(node, offset, depth);
    } else {
      MendInner(node, offset, depth, level);
    }
  }
  pointer.crc32c = SealNode(node);
  pointer.birth_epoch = header.birth_epoch;
  image_.Write(block * kMetaBlockBytes, node);
  mended_[block] = pointer;
  map_.nodes[at].pointer = pointer;
}

void ImageMender::MendInner(std::span<std::byte> node, std::size_t offset, int depth,
                            std::uint32_t level) {
  if (offset + sizeof(InnerCellHeader) > node.size()) return;
  const auto place = node.subspan(offset);
  auto cell = LoadStruct<InnerCellHeader>(place);
  MendNode(cell.child, level - 1, depth + 1);
  StoreStruct(place, cell);
}

void ImageMender::MendLeaf(std::span<std::byte> node, std::size_t offset, int depth) {
  if (offset + sizeof(LeafCellHeader) > node.size()) return;
  const auto cell = LoadStruct<LeafCellHeader>(node.subspan(offset));
  ++key_count_;
  key_bytes_ += cell.key_bytes + cell.value_bytes;
  offset += sizeof(cell) + cell.key_bytes;
  const auto pieces = std::min<std::size_t>(PiecesOf(cell.value_bytes), 9);
  for (std::size_t piece = 0; piece < pieces; ++piece, offset += sizeof(NodePointer)) {
    if (offset + sizeof(NodePointer) > node.size()) return;
    auto pointer = LoadStruct<NodePointer>(node.subspan(offset));
    MendNode(pointer, kPieceLevel, depth + 1);
    StoreStruct(node.subspan(offset), pointer);
  }
}

void ImageMender::MendLog() {
  auto root = LoadAt<Uberblock>(image_, map_.uberblocks[0] * kMetaBlockBytes);
  const LogRing ring{map_.layout.log_first_block, map_.layout.log_block_count};
  std::uint32_t before = root.log_head_prev_crc32c;
  std::uint64_t position = root.log_head_position;
  map_.groups.clear();
  while (map_.groups.size() < kGroupsMax) {
    const auto offset = ring.OffsetOf(position);
    auto header = LoadAt<GroupHeader>(image_, offset);
    if (header.magic != kGroupMagic || header.log_epoch != root.log_epoch ||
        header.payload_bytes > kGroupPayloadBytesMax) {
      return;
    }
    const auto length = GroupBytes(header.payload_bytes);
    const auto end = (ring.first_block + ring.block_count) * kMetaBlockBytes;
    if (length > end - offset) return;  // a wrap: not in so short a log
    std::vector<std::byte> payload(length - sizeof(header));
    image_.Read(offset + sizeof(header), payload);
    header.payload_crc32c = Crc32c(payload);
    header.prev_crc32c = before;
    Seal(header);
    StoreAt(image_, offset, header);
    map_.groups.push_back({offset, length});
    before = header.crc32c;
    position += length / kMetaBlockBytes;
  }
}

}  // namespace filer::fuzz
