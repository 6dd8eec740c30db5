#include "fsal/engine/format/node.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "fsal/engine/format/label.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kBlock = 4000;
constexpr std::uint64_t kEpoch = 7;
const VolumeUuid kUuid{4, 5, 6};

// A node byte by byte, as the format says, without the code that makes nodes.
struct Made {
  std::vector<std::byte> bytes = std::vector<std::byte>(kNodeBytes);
  NodeHeader header{};
  std::size_t heap = kNodeBytes;

  explicit Made(std::uint32_t level) {
    header.magic = kNodeMagic;
    header.version = kFormatVersion;
    header.level = level;
    std::copy(kUuid.begin(), kUuid.end(), header.volume_uuid);
    header.tree = kMetaTree;
    header.birth_epoch = kEpoch;
    header.own_block = kBlock;
    header.heap_offset = kNodeBytes;
  }
  void AddCell(const std::string& cell) {
    heap -= cell.size();
    std::memcpy(bytes.data() + heap, cell.data(), cell.size());
    SetSlot(header.count, heap);
    header.count = header.count + 1;
    header.heap_offset = static_cast<std::uint32_t>(heap);
  }
  void SetSlot(std::size_t at, std::size_t offset) {
    const le16 slot(static_cast<std::uint16_t>(offset));
    std::memcpy(bytes.data() + sizeof(NodeHeader) + at * 2, &slot, 2);
  }
  Result<void> Check(std::uint32_t level) {
    StoreStruct(bytes, header);
    NodePointer pointer{};
    pointer.block = kBlock;
    pointer.birth_epoch = kEpoch;
    pointer.crc32c = SealNode(bytes);
    return CheckNode(bytes, kUuid, pointer, level);
  }
};

std::string Leaf(const std::string& key, const std::string& value) {
  std::string cell(6, '\0');
  cell[0] = static_cast<char>(key.size());
  cell[2] = static_cast<char>(value.size());
  return cell + key + value;
}

std::string Inner(const std::string& key) {
  std::string cell(22, '\0');
  cell[0] = static_cast<char>(key.size());
  cell[2] = 9;  // the child's block
  return cell + key;
}

Made SampleLeaf() {
  Made made(0);
  for (const char* key : {"a", "b", "cc"}) made.AddCell(Leaf(key, "value"));
  return made;
}

TEST(CheckNode, TakesALeafAndAnInnerNodeMadeByHand) {
  auto leaf = SampleLeaf();
  ASSERT_TRUE(leaf.Check(0).has_value());
  const NodeView view(leaf.bytes.data());
  EXPECT_EQ(view.count(), 3U);
  EXPECT_EQ(view.leaf(2).key, "cc");
  EXPECT_EQ(view.leaf(2).stored, "value");
  EXPECT_EQ(view.LowerBound("b"), 1U);
  EXPECT_EQ(view.LowerBound("bb"), 2U);
  EXPECT_EQ(view.LowerBound("d"), 3U);
  Made inner(2);
  for (const char* key : {"", "b", "d"}) inner.AddCell(Inner(key));
  ASSERT_TRUE(inner.Check(2).has_value());
  const NodeView children(inner.bytes.data());
  EXPECT_EQ(children.child(1).block, 9U);
  EXPECT_EQ(children.ChildFor("a"), 0U);
  EXPECT_EQ(children.ChildFor("b"), 1U);
  EXPECT_EQ(children.ChildFor("c"), 1U);
  EXPECT_EQ(children.ChildFor("zz"), 2U);
}

// The tree takes a node of the open epoch for its own, to be changed in place.
TEST(CheckNode, RefusesPointersToWhatIsYounger) {
  for (const bool is_younger : {false, true}) {
    const auto birth = static_cast<char>(kEpoch + (is_younger ? 1 : 0));
    Made inner(1);
    auto child = Inner("b");
    child[2 + 8] = birth;
    inner.AddCell(Inner(""));
    inner.AddCell(child);
    EXPECT_EQ(inner.Check(1).has_value(), !is_younger);
    Made leaf(0);
    std::string cell(sizeof(LeafCellHeader), '\0');
    cell[0] = 1;
    cell[4] = 1;  // 64 KiB: five pieces
    cell += "k" + std::string(5 * sizeof(NodePointer), '\0');
    cell[cell.size() - sizeof(NodePointer) + 8] = birth;
    leaf.AddCell(cell);
    EXPECT_EQ(leaf.Check(0).has_value(), !is_younger);
  }
}

TEST(CheckNode, RefusesEveryFlippedBitOfTheHeaderAndMany) {
  auto leaf = SampleLeaf();
  ASSERT_TRUE(leaf.Check(0).has_value());
  const auto header = LoadStruct<NodeHeader>(leaf.bytes);
  NodePointer pointer{};
  pointer.block = kBlock;
  pointer.birth_epoch = kEpoch;
  pointer.crc32c = header.crc32c;
  for (std::size_t bit = 0; bit < kNodeBytes * 8; bit += bit < 128 * 8 ? 1 : 61) {
    leaf.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_TRUE(CheckNode(leaf.bytes, kUuid, pointer, 0).error() == Errc::kCorrupt) << bit;
    leaf.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(CheckNode, RefusesWhatThePointerDoesNotMean) {
  auto leaf = SampleLeaf();
  ASSERT_TRUE(leaf.Check(0).has_value());
  NodePointer pointer{};
  pointer.block = kBlock;
  pointer.birth_epoch = kEpoch;
  pointer.crc32c = LoadStruct<NodeHeader>(leaf.bytes).crc32c;
  const auto refused = [&](auto change) {
    auto other = pointer;
    change(other);
    return CheckNode(leaf.bytes, kUuid, other, 0).error() == Errc::kCorrupt;
  };
  EXPECT_TRUE(refused([](NodePointer& p) { p.block = kBlock + 4; }));        // misdirected
  EXPECT_TRUE(refused([](NodePointer& p) { p.birth_epoch = kEpoch + 1; }));  // lost
  EXPECT_TRUE(refused([](NodePointer& p) { p.crc32c = p.crc32c + 1; }));     // an earlier try
  EXPECT_FALSE(CheckNode(leaf.bytes, kUuid, pointer, 1).has_value());
  EXPECT_FALSE(CheckNode(leaf.bytes, kUuid, pointer, kPieceLevel).has_value());
  EXPECT_FALSE(CheckNode(leaf.bytes, VolumeUuid{9}, pointer, 0).has_value());
}

// Checksums fit; the decoder itself must hold.
TEST(CheckNode, RefusesHostileCells) {
  const std::vector<std::function<void(Made&)>> changes = {
      [](Made& m) { m.header.count = 0; },
      [](Made& m) { m.header.count = 4; },
      [](Made& m) { m.header.count = UINT32_MAX; },
      [](Made& m) { m.header.heap_offset = 0; },
      [](Made& m) { m.header.heap_offset = kNodeBytes; },
      [](Made& m) { m.header.heap_offset = UINT32_MAX; },
      [](Made& m) { m.header.level = kNodeLevelMax + 1; },
      [](Made& m) { m.header.tree = 2; },
      [](Made& m) { m.header.reserved[5] = 1; },
      [](Made& m) { m.header.version = kFormatVersion + 1; },
      [](Made& m) { m.SetSlot(1, 0); },
      [](Made& m) { m.SetSlot(1, kNodeBytes - 1); },
      [](Made& m) { m.SetSlot(1, 0xFFFF); },
      [](Made& m) { m.SetSlot(1, m.heap); },                       // the third's cell twice
      [](Made& m) { m.bytes[m.heap] = std::byte{0}; },             // empty key
      [](Made& m) { m.bytes[m.heap + 1] = std::byte{0xFF}; },      // key beyond the limit
      [](Made& m) { m.bytes[kNodeBytes - 10] = std::byte{200}; },  // value beyond the node
      [](Made& m) { m.bytes[m.heap + 5] = std::byte{0xFF}; },      // value beyond the limit
      [](Made& m) { m.bytes[m.heap + 6] = std::byte{'a'}; },       // out of order
  };
  for (std::size_t at = 0; at < changes.size(); ++at) {
    auto made = SampleLeaf();
    changes[at](made);
    EXPECT_TRUE(made.Check(0).error() == Errc::kCorrupt) << at;
  }
  Made inner(1);
  for (const char* key : {"a", "b"}) inner.AddCell(Inner(key));
  EXPECT_TRUE(inner.Check(1).error() == Errc::kCorrupt);  // the first key is not empty
}

// Cells that overlap would be more than the node holds once they are laid side by side.
TEST(CheckNode, RefusesCellsThatOverlap) {
  Made made(0);
  std::string overlapping;
  for (int at = 0; at < 100; ++at) {
    // Each cell's value reaches over the cells before it.
    std::string cell = Leaf(std::string(1, static_cast<char>(1 + at)), "");
    cell[2] = static_cast<char>(0xE8);
    cell[3] = 3;  // 1000 bytes
    if (at == 0) cell += std::string(1000, 'v');
    made.AddCell(cell);
  }
  // Ascending keys from the lowest cell up are what the slots say.
  EXPECT_TRUE(made.Check(0).error() == Errc::kCorrupt);
}

TEST(CheckNode, ChecksTheLengthOfAPiece) {
  for (const auto& [count, is_sound] : std::vector<std::pair<std::size_t, bool>>{
           {1, true}, {kPieceBytesMax, true}, {0, false}, {kPieceBytesMax + 1, false}}) {
    Made made(kPieceLevel);
    made.header.heap_offset = 0;
    made.header.count = static_cast<std::uint32_t>(count);
    EXPECT_EQ(made.Check(kPieceLevel).has_value(), is_sound) << count;
  }
}

TEST(CheckNode, TakesRandomBytesWithMendedChecksums) {
  std::mt19937_64 random(5);
  int sound = 0;
  for (int round = 0; round < 3000; ++round) {
    auto made = SampleLeaf();
    if (round % 3 == 0) made.header.count = static_cast<std::uint32_t>(random() % 9);
    const int damages = 1 + static_cast<int>(random() % 3);
    for (int damage = 0; damage < damages; ++damage) {
      const bool is_slot = random() % 2 == 0;
      const auto at = is_slot ? sizeof(NodeHeader) + random() % 16 : kNodeBytes - 1 - random() % 40;
      made.bytes[at] = static_cast<std::byte>(random());
    }
    if (!made.Check(0).has_value()) continue;
    ++sound;
    const NodeView view(made.bytes.data());
    for (std::size_t at = 0; at < view.count(); ++at) {
      const auto cell = view.cell(at);
      ASSERT_LE(cell.data() + cell.size(),
                reinterpret_cast<const char*>(made.bytes.data()) + kNodeBytes);
    }
  }
  EXPECT_GT(sound, 0);
}

TEST(LongValues, ArePointedToByPieces) {
  EXPECT_EQ(PiecesOf(kInlineValueBytesMax), 0U);
  EXPECT_EQ(PiecesOf(kInlineValueBytesMax + 1), 1U);
  EXPECT_EQ(PiecesOf(kPieceBytesMax + 1), 2U);
  EXPECT_EQ(PiecesOf(kNodeValueBytesMax), 9U);
  EXPECT_EQ(StoredValueBytes(kNodeValueBytesMax), 9 * sizeof(NodePointer));
}

}  // namespace
}  // namespace filer::engine
