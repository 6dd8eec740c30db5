// The map of used space: alone, and in a store that starts from it.
#include <gtest/gtest.h>

#include "fsal/engine/format/node.h"
#include "fsal/engine/format/uberblock.h"
#include "fsal/engine/tree/space_map.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kVolumeBytes = 1ULL << 30;  // its data area takes several blocks of the map
constexpr VolumeUuid kUuid{4, 5, 6};

struct OnDisk {
  std::unique_ptr<SimDevice> device = NewDevice({.size_bytes = kVolumeBytes});
  VolumeLayout layout = PlanVolume(kVolumeBytes).value();
  BufferRef buffer = device->Pool().Allocate(64 << 10).value();
  std::uint64_t data = layout.data_first_block;

  std::uint64_t Write(SpaceMap& map, std::uint64_t epoch, bool is_finished = true) {
    const auto written = map.Write(*device, map.TakeChanged(), epoch, buffer).value();
    EXPECT_TRUE(FlushBlocking(*device).has_value());
    if (is_finished) map.Accept(written);
    return written.sum;
  }
  void Flip(std::uint64_t block) {
    std::vector<std::byte> bytes(kMetaBlockBytes);
    EXPECT_TRUE(ReadBlocking(*device, block * kMetaBlockBytes, bytes).has_value());
    bytes[2000] ^= std::byte{8};
    EXPECT_TRUE(WriteBlocking(*device, block * kMetaBlockBytes, bytes).has_value());
  }
};

TEST(SpaceMap, RefusesWhatIsUsedTwiceFreedTwiceOrOutside) {
  const auto layout = PlanVolume(kVolumeBytes).value();
  SpaceMap map(layout, kUuid);
  const auto data = layout.data_first_block;
  EXPECT_TRUE(map.Use({data + 10, 200}));
  EXPECT_FALSE(map.Use({data + 209, 1}));
  EXPECT_FALSE(map.Use({data, 11}));
  EXPECT_FALSE(map.Drop({data + 9, 2}));
  EXPECT_TRUE(map.Drop({data + 60, 100}));
  EXPECT_TRUE(map.IsAll({data + 60, 100}, false));
  EXPECT_TRUE(map.IsAll({data + 160, 50}, true));
  EXPECT_FALSE(map.Use({data - 1, 2}));
  EXPECT_FALSE(map.Use({data + layout.data_block_count - 1, 2}));
  EXPECT_FALSE(map.Use({data, UINT64_MAX}));
  EXPECT_FALSE(map.Use({UINT64_MAX, 1}));
  EXPECT_FALSE(map.Use({data, 0}));
  EXPECT_TRUE(map.UseUnit(3));
  EXPECT_FALSE(map.UseUnit(3));
  EXPECT_EQ(map.used_units(), 1U);
  EXPECT_TRUE(map.DropUnit(3));
  EXPECT_FALSE(map.DropUnit(3));
}

TEST(SpaceMap, ComesBackAsItWasWritten) {
  OnDisk disk;
  SpaceMap map(disk.layout, kUuid);
  std::mt19937_64 random(3);
  std::uint64_t sum = 0;
  for (std::uint64_t epoch = 1; epoch <= 20; ++epoch) {
    for (int change = 0; change < 30; ++change) {
      const BlockRun run{disk.data + random() % (disk.layout.data_block_count - 300),
                         1 + random() % 300};
      if (!map.Use(run)) map.Drop(run);
      map.UseUnit(random() % 2000);
    }
    sum = disk.Write(map, epoch);
    EXPECT_EQ(sum, map.sum());
    SpaceMap read(disk.layout, kUuid);
    ASSERT_TRUE(read.Load(*disk.device, epoch, sum).value());
    EXPECT_TRUE(std::ranges::equal(read.data_words(), map.data_words()));
    EXPECT_TRUE(std::ranges::equal(read.unit_words(), map.unit_words()));
    EXPECT_EQ(read.used_units(), map.used_units());
    EXPECT_TRUE(read.TakeChanged().empty());
  }
  EXPECT_TRUE(map.TakeChanged().empty()) << "only what changed is written";
}

// Its epoch is used again by the next one, which does not touch the same blocks.
TEST(SpaceMap, ACheckpointThatDidNotEndLeavesNothingBehind) {
  OnDisk disk;
  SpaceMap map(disk.layout, kUuid);
  const BlockRun near{disk.data, 10};
  const BlockRun far{disk.data + 3 * kSpaceBits, 10};
  map.Use(near);
  map.Use(far);
  const auto sum = disk.Write(map, 1);
  map.Drop(far);
  disk.Write(map, 2, false);  // and no uberblock

  SpaceMap next(disk.layout, kUuid);
  ASSERT_TRUE(next.Load(*disk.device, 1, sum).value());
  EXPECT_TRUE(next.IsAll(far, true));
  next.Drop(near);
  const auto next_sum = disk.Write(next, 2);
  SpaceMap last(disk.layout, kUuid);
  ASSERT_TRUE(last.Load(*disk.device, 2, next_sum).value());
  EXPECT_TRUE(last.IsAll(far, true));
  EXPECT_TRUE(last.IsAll(near, false));
}

TEST(SpaceMap, IsNotTrustedWhenABlockOfItIsDamagedLostOrForeign) {
  OnDisk disk;
  SpaceMap map(disk.layout, kUuid);
  map.Use({disk.data, 10});
  const auto first_sum = disk.Write(map, 1);
  map.Drop({disk.data, 1});
  const auto sum = disk.Write(map, 2);
  SpaceMap read(disk.layout, kUuid);
  EXPECT_FALSE(read.Load(*disk.device, 2, first_sum).value());
  EXPECT_TRUE(read.Load(*disk.device, 1, first_sum).value()) << "the one before is still there";
  EXPECT_FALSE(SpaceMap(disk.layout, VolumeUuid{9}).Load(*disk.device, 2, sum).value());
  ASSERT_TRUE(read.Load(*disk.device, 2, sum).value());
  // As if the write of 2 had not taken place.
  const auto index = SpaceBlocksFor(disk.layout.node_block_count / kNodeBlocks);
  disk.Flip(SpaceBlockPlace(disk.layout, index, 1));
  EXPECT_FALSE(read.Load(*disk.device, 2, sum).value());
  EXPECT_TRUE(read.Load(*disk.device, 1, first_sum).value());
  disk.Flip(SpaceBlockPlace(disk.layout, index, 0));
  EXPECT_FALSE(read.Load(*disk.device, 1, first_sum).value());
}

// Below, a key is its run: "run" and two integers.
std::string RunKey(BlockRun run) {
  return "run " + std::to_string(run.first) + " " + std::to_string(run.count);
}
Result<DroppedRun> RunOfTestPair(std::string_view key, std::string_view) {
  DroppedRun run;
  if (!key.starts_with("run ")) return run;
  std::sscanf(std::string(key).c_str(), "run %lu %lu", &run.run.first, &run.run.count);
  return run;
}

StoreOpenOptions WithRuns(bool must_walk = false) {
  StoreOpenOptions options;
  options.run_of = RunOfTestPair;
  options.must_walk = must_walk;
  return options;
}

Transaction Using(BlockRun run) {
  Transaction transaction;
  transaction.Put(RunKey(run), "");
  transaction.Use(run);
  transaction.CountFiles(1);
  return transaction;
}

TEST(StoreSpace, TellsAfterEveryKindOfMountWhatIsUsed) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, WithRuns());
  const auto first = store->Geometry().data_first_block;
  const auto is_used = [&](std::uint64_t block) {
    return (store->UsedBlocks()[block / 64] >> block % 64 & 1) != 0;
  };
  ASSERT_TRUE(store->Commit(Using({first, 5})).has_value());
  ASSERT_TRUE(store->Checkpoint().has_value());
  ASSERT_TRUE(store->Sync(store->Commit(Using({first + 70, 2})).value()).has_value());
  store.reset();  // killed: one is in the checkpoint, one in the log

  store = MustOpen(*device, WithRuns());
  EXPECT_TRUE(is_used(4) && is_used(71) && !is_used(5) && !is_used(72));
  EXPECT_EQ(store->Counters().files, 2U);
  Transaction gone;
  gone.Erase(RunKey({first, 5}));
  gone.Drop({first, 5});
  gone.CountFiles(-1);
  ASSERT_TRUE(store->Commit(std::move(gone)).has_value());
  ASSERT_TRUE(store->Close().has_value());

  store = MustOpen(*device, WithRuns());
  EXPECT_TRUE(!is_used(4) && is_used(71));
  EXPECT_EQ(store->Counters().files, 1U);
  EXPECT_FALSE(store->Space().was_remade);
  // What contradicts the map is refused, and nothing of it is done.
  EXPECT_TRUE(store->Commit(Using({first + 71, 3})).error() == Errc::kCorrupt);
  Transaction twice;
  twice.Put("x", "y");
  twice.Drop({first, 1});
  EXPECT_TRUE(store->Commit(std::move(twice)).error() == Errc::kCorrupt);
  Transaction overlapping;
  overlapping.Put("x", "y");
  overlapping.Drop({first + 70, 2});
  overlapping.Drop({first + 71, 1});
  EXPECT_TRUE(store->Commit(std::move(overlapping)).error() == Errc::kCorrupt);
  EXPECT_TRUE(store->Get("x").error() == Errc::kNotFound);
  EXPECT_TRUE(store->Health().has_value());
}

TEST(StoreSpace, ADamagedMapIsMadeAnewFromTheTree) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, WithRuns());
  const auto first = store->Geometry().data_first_block;
  for (std::uint64_t at = 0; at < 1500; ++at) {
    ASSERT_TRUE(store->Commit(Using({first + 3 * at, 2})).has_value());
  }
  const auto used = store->UsedBlocks();
  ASSERT_TRUE(store->Checkpoint().has_value());
  ASSERT_TRUE(store->Sync(store->Commit(Using({first + 4600, 2})).value()).has_value());
  store.reset();
  const auto layout = PlanVolume(64 << 20).value();
  for (std::uint64_t block = 0; block < layout.map_block_count; ++block) {
    auto image = device->CurrentImage();
    image.FlipBit((layout.map_first_block + block) * kMetaBlockBytes + 100, 1);
    auto damaged = DeviceOn(std::move(image));
    store = MustOpen(*damaged, WithRuns(true));
    EXPECT_FALSE(store->Space().differs_from_tree);
    auto expected = used;
    expected[4600 / 64] |= 3ULL << 4600 % 64;
    EXPECT_EQ(store->UsedBlocks(), expected);
    const auto was_remade = store->Space().was_remade;
    ASSERT_TRUE(store->Close().has_value());
    store.reset();
    store = MustOpen(*damaged, WithRuns(true));
    EXPECT_FALSE(store->Space().was_remade) << "mended by the first mount, " << was_remade;
    EXPECT_FALSE(store->Space().differs_from_tree);
    EXPECT_EQ(store->UsedBlocks(), expected);
    store.reset();
  }
}

TEST(StoreSpace, AMountReadsNoMoreOfALargerTree) {
  std::vector<std::uint64_t> reads;
  for (const int keys : {2000, 200'000}) {
    auto device = NewDevice({.size_bytes = 2ULL << 30});
    ASSERT_TRUE(Store::Format(*device, Named()).has_value());
    auto store = MustOpen(*device);
    for (int at = 0; at < keys; at += 500) {
      Transaction transaction;
      for (int one = at; one < at + 500; ++one) {
        transaction.Put("key " + std::to_string(one), std::string(100, 'v'));
      }
      ASSERT_TRUE(store->Commit(std::move(transaction)).has_value());
    }
    ASSERT_TRUE(store->Checkpoint().has_value());
    ASSERT_TRUE(store->Sync(store->Commit(Using({store->Geometry().data_first_block, 1})).value())
                    .has_value());
    store.reset();
    store = MustOpen(*device);
    EXPECT_EQ(store->Counters().keys, static_cast<std::uint64_t>(keys) + 1);
    reads.push_back(store->Counters().nodes_read);
  }
  EXPECT_LE(reads[1], reads[0] + 3) << "the way to one leaf, in a tree that is one or two levels "
                                       "deeper";
}

}  // namespace
}  // namespace filer::engine
