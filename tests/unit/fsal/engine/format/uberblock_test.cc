#include "fsal/engine/format/uberblock.h"

#include <gtest/gtest.h>

#include <functional>

namespace filer::engine {
namespace {

const VolumeUuid kUuid{4, 5, 6};
const VolumeLayout kLayout = PlanVolume(64 << 20).value();
constexpr std::uint64_t kBlock = 6;

Uberblock Sample() {
  Uberblock root{};
  root.magic = kUberblockMagic;
  root.version = kFormatVersion;
  std::copy(kUuid.begin(), kUuid.end(), root.volume_uuid);
  root.own_block = kBlock;
  root.epoch = 5;
  root.mount_epoch = 2;
  root.tree_epoch = 4;
  root.table_piece_count = 1;
  root.table[0].block = kLayout.node_first_block + 8;
  root.table[0].birth_epoch = 4;
  root.node_count = 3;
  Seal(root);
  return root;
}

Result<Uberblock> Decode(const Uberblock& root) {
  return DecodeUberblock(std::as_bytes(std::span(&root, 1)), kLayout, kUuid, kBlock);
}

TEST(DecodeUberblock, ReadsBackWhatWasMade) {
  const auto decoded = Decode(Sample());
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_EQ(decoded.value().epoch, 5U);
}

TEST(DecodeUberblock, RefusesEveryFlippedBit) {
  auto root = Sample();
  const auto bytes = std::as_writable_bytes(std::span(&root, 1));
  for (std::size_t bit = 0; bit < sizeof(root) * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_FALSE(Decode(root).has_value()) << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(DecodeUberblock, RefusesWhatCannotBeWithMendedChecksums) {
  const std::vector<std::function<void(Uberblock&)>> changes = {
      [](Uberblock& u) { u.own_block = 7; },
      [](Uberblock& u) { u.epoch = 0; },
      [](Uberblock& u) { u.epoch = UINT64_MAX; },
      [](Uberblock& u) { u.mount_epoch = UINT64_MAX; },
      [](Uberblock& u) { u.checkpoint_lsn = UINT64_MAX; },
      [](Uberblock& u) { u.log_head_position = UINT64_MAX; },
      [](Uberblock& u) { u.tree_epoch = UINT64_MAX; },
      [](Uberblock& u) { u.table[0].birth_epoch = 5; },
      [](Uberblock& u) { u.table[0].block = kLayout.node_first_block - 1; },
      [](Uberblock& u) {
        u.table[0].block = kLayout.node_first_block + kLayout.node_block_count - kNodeBlocks + 1;
      },
      [](Uberblock& u) { u.table[0].block = UINT64_MAX; },
      [](Uberblock& u) { u.table[0].block = 0; },
      [](Uberblock& u) { u.table_piece_count = 0; },
      [](Uberblock& u) { u.table_piece_count = 2; },
      [](Uberblock& u) { u.table_piece_count = UINT32_MAX; },
      [](Uberblock& u) { u.table[1].block = kLayout.node_first_block; },
      [](Uberblock& u) { u.tree_epoch = 0; },
      [](Uberblock& u) { u.node_count = 0; },
      [](Uberblock& u) { u.node_count = kLayout.node_block_count; },
      [](Uberblock& u) { u.is_clean = 2; },
      [](Uberblock& u) { u.version = 0; },
      [](Uberblock& u) { u.reserved[100] = 1; },
  };
  for (std::size_t at = 0; at < changes.size(); ++at) {
    auto root = Sample();
    changes[at](root);
    Seal(root);
    EXPECT_TRUE(Decode(root).error() == Errc::kCorrupt) << at;
  }
  auto foreign = Sample();
  foreign.volume_uuid[0] = 99;
  Seal(foreign);
  EXPECT_TRUE(Decode(foreign).error() == Errc::kNotOurs);
  auto newer = Sample();
  newer.version = kFormatVersion + 1;
  Seal(newer);
  EXPECT_TRUE(Decode(newer).error() == Errc::kNewerVersion);
}

TEST(UberblockBlock, StaysInsideItsRing) {
  for (std::uint64_t epoch = 0; epoch < 200; ++epoch) {
    const auto first = UberblockBlock(kLayout, 0, epoch);
    EXPECT_GE(first, kLayout.uberblock_first_block);
    EXPECT_EQ(UberblockBlock(kLayout, 1, epoch), first + kUberblocksPerRing);
    EXPECT_LT(first + kUberblocksPerRing, kLayout.log_first_block);
  }
}

}  // namespace
}  // namespace filer::engine
