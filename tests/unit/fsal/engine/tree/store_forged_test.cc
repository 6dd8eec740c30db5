// A tree that contradicts itself, though each of its checksums is right: a pointer leads to another
// node of the tree, or out of its region. Nobody walks the tree at mount, so it is whoever meets
// the contradiction that has to say so.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "fsal/engine/format/node.h"
#include "fsal/engine/format/uberblock.h"
#include "tests/unit/fsal/engine/tree/forged_table.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

constexpr char kLong[] = "k0500";  // its value lies in pieces

std::string KeyOf(int number) {
  auto digits = std::to_string(number);
  return "k" + std::string(4 - digits.size(), '0') + digits;
}

// An inner root over leaves, closed.
class Forged : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = NewDevice();
    ASSERT_TRUE(Store::Format(*device_, Named()).has_value());
    const auto store = MustOpen(*device_);
    for (int at = 0; at < 1000; ++at) PutOne(*store, KeyOf(at), std::string(100, 'v'));
    PutOne(*store, kLong, std::string(40'000, 'l'));
    ASSERT_TRUE(store->Close().has_value());
    image_ = device_->CurrentImage();
    for (std::uint64_t epoch = 1; epoch < kUberblocksPerRing; ++epoch) {
      const auto root = Load<Uberblock>(UberblockBlock(layout_, 0, epoch));
      if (root.magic == kUberblockMagic && root.epoch > root_.epoch) root_ = root;
    }
    table_ = LoadTable(image_, layout_, root_).value();
    ASSERT_EQ(tree().level, 1U);
    node_ = LoadNode(tree().root.block);
  }

  template <DiskStruct T>
  T Load(std::uint64_t block) const {
    T value{};
    image_.Read(block * kMetaBlockBytes, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::vector<std::byte> LoadNode(std::uint64_t block) const {
    std::vector<std::byte> node(kNodeBytes);
    image_.Read(block * kMetaBlockBytes, node);
    return node;
  }
  NodeView view() const { return NodeView(node_.data()); }
  TreeRecord& tree() { return table_.records.back(); }  // the only one with keys

  // Seals `node` in its place.
  NodePointer Store(std::uint64_t block, std::vector<std::byte>& node) {
    NodePointer pointer{};
    pointer.block = block;
    pointer.birth_epoch = LoadStruct<NodeHeader>(node).birth_epoch;
    pointer.crc32c = SealNode(node);
    image_.Write(block * kMetaBlockBytes, node);
    return pointer;
  }
  void SetPointer(std::vector<std::byte>& node, std::size_t at, std::size_t skip,
                  const NodePointer& pointer) {
    const auto cell = NodeView(node.data()).cell(at);
    const auto offset = reinterpret_cast<const std::byte*>(cell.data()) - node.data();
    StoreStruct(std::span(node).subspan(static_cast<std::size_t>(offset) + skip), pointer);
  }
  void SetChild(std::size_t at, const NodePointer& pointer) {
    SetPointer(node_, at, offsetof(InnerCellHeader, child), pointer);
  }
  // The first piece of the long value lies there.
  void SetPiece(const NodePointer& pointer) {
    const auto child = view().ChildFor(kLong);
    auto leaf = LoadNode(view().child(child).block);
    const auto at = NodeView(leaf.data()).LowerBound(kLong);
    SetPointer(leaf, at, sizeof(LeafCellHeader) + std::strlen(kLong), pointer);
    SetChild(child, Store(view().child(child).block, leaf));
  }
  NodePointer Piece() const {
    const auto leaf = LoadNode(view().child(view().ChildFor(kLong)).block);
    const NodeView cells(leaf.data());
    return PieceAt(cells.leaf(cells.LowerBound(kLong)), 0);
  }

  std::unique_ptr<engine::Store> Open() {
    tree().root = Store(tree().root.block, node_);
    StoreTable(image_, table_, root_);
    for (std::uint32_t ring = 0; ring < kUberblockRings; ++ring) {
      root_.own_block = UberblockBlock(layout_, ring, root_.epoch);
      Seal(root_);
      image_.Write(root_.own_block * kMetaBlockBytes, std::as_bytes(std::span(&root_, 1)));
    }
    device_ = DeviceOn(image_);
    return MustOpen(*device_);
  }

  std::unique_ptr<SimDevice> device_;
  SimImage image_{64 << 20};
  const VolumeLayout layout_ = PlanVolume(64 << 20).value();
  Uberblock root_{};
  TreeTable table_;
  std::vector<std::byte> node_;  // the tree's root
};

Errc CommitBoth(Store& store, const std::string& left, std::optional<std::string> right_value,
                const std::string& right) {
  Transaction transaction;
  transaction.Put(left, "new");
  if (right_value) {
    transaction.Put(right, *right_value);
  } else {
    transaction.Erase(right);
  }
  const auto committed = store.Commit(std::move(transaction));
  return committed.has_value() ? Errc::kBusy : committed.error().code();
}

TEST_F(Forged, ANodeWithTwoParentsIsToldByTheTransactionThatMeetsItTwice) {
  const std::string left(view().key(1));
  const std::string right(view().key(2));
  SetChild(2, view().child(1));
  for (const bool is_erased : {false, true}) {
    const auto store = Open();
    ASSERT_NE(store, nullptr);
    ASSERT_TRUE(store->Get(left).has_value());  // in memory from here on
    const auto value = is_erased ? std::nullopt : std::optional<std::string>("new");
    EXPECT_EQ(CommitBoth(*store, left, value, right), Errc::kCorrupt);
    EXPECT_FALSE(store->Health().has_value());  // nothing of it becomes durable
  }
}

TEST_F(Forged, APieceOfAValueIsNoNodeAlsoIfItIsInMemory) {
  const std::string key(view().key(1));
  ASSERT_NE(view().ChildFor(kLong), 1U);
  SetChild(1, Piece());
  const auto store = Open();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->Get(kLong).has_value());  // in memory from here on
  const auto got = store->Get(key);
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code(), Errc::kCorrupt);
}

TEST_F(Forged, APieceOutsideOfTheRegionIsToldWhenItIsFreed) {
  auto piece = Piece();
  piece.block = 1;
  SetPiece(piece);
  const auto store = Open();
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(CommitBoth(*store, KeyOf(1), std::nullopt, kLong), Errc::kCorrupt);
}

// The value's first piece is a leaf that the same transaction changes.
TEST_F(Forged, AFreedPieceThatIsAnotherNodeDoesNotTakeItFromUnderTheTransaction) {
  const std::string other(view().key(1));
  SetPiece(view().child(1));
  const auto store = Open();
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->Get(other).has_value());
  Transaction transaction;
  transaction.Erase(kLong);
  transaction.Put(other, "new");
  const auto committed = store->Commit(std::move(transaction));
  ASSERT_FALSE(committed.has_value());
  EXPECT_EQ(committed.error().code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace filer::engine
