// Trees of a store: filesets, snapshots, clones, roll-back; held against a model of maps, with
// kills in between, and what is in use against what the trees refer to.
#include <gtest/gtest.h>

#include "tests/unit/fsal/engine/tree/trees_fixture.h"

namespace filer::engine {
namespace {

TEST(StoreTrees, ASnapshotStaysAsItWasAndGivesItsSpaceBack) {
  Volume volume(1);
  for (int count = 0; count < 300; ++count) volume.Change(kFirstTree);
  const auto before = UsedCount(volume.store());
  const auto snapshot = volume.Snapshot(kFirstTree);
  for (int count = 0; count < 600; ++count) volume.Change(kFirstTree);
  volume.Compare(false);
  EXPECT_GT(volume.store().AllTrees().UniqueBlocks(snapshot).value(), 0U);
  EXPECT_EQ(RecordOf(volume.store(), snapshot).epoch,
            RecordOf(volume.store(), kFirstTree).shared_epoch);
  volume.Kill();
  volume.Compare(true);
  const auto with = UsedCount(volume.store());
  const auto unique = volume.store().AllTrees().UniqueBlocks(snapshot).value();
  ASSERT_TRUE(volume.TryDelete(snapshot));
  ReclaimAll(volume.store());
  volume.Compare(true);
  EXPECT_LT(UsedCount(volume.store()), with);
  EXPECT_LE(with - UsedCount(volume.store()), unique) << "nodes are counted, too";
  EXPECT_GT(before, 0U);
  volume.Kill();
  volume.Compare(true);
}

TEST(StoreTrees, ASnapshotIsReadOnlyAndItsNameIsChecked) {
  Volume volume(2);
  volume.Change(kFirstTree);
  auto& trees = volume.store().AllTrees();
  const auto snapshot = volume.Snapshot(kFirstTree);
  const auto view = trees.Open(snapshot).value();
  Transaction transaction;
  transaction.Put("a", "b");
  EXPECT_TRUE(view->Commit(std::move(transaction)).error() == Errc::kReadOnly);
  EXPECT_TRUE(trees.MakeSnapshot(snapshot, "x").error() == Errc::kNotFound);
  EXPECT_TRUE(trees.MakeSnapshot(99, "x").error() == Errc::kNotFound);
  for (const auto* name : {"", ".x", "-x", "a/b", "a b", "\xff"}) {
    EXPECT_TRUE(trees.MakeSnapshot(kFirstTree, name).error() == Errc::kInvalidName) << name;
  }
  EXPECT_TRUE(trees.MakeSnapshot(kFirstTree, std::string(64, 'x')).error() == Errc::kInvalidName);
  ASSERT_TRUE(trees.Rename(snapshot, "daily").has_value());
  EXPECT_TRUE(trees.MakeSnapshot(kFirstTree, "daily").error() == Errc::kExists);
  ASSERT_TRUE(trees.Hold(snapshot, true).has_value());
  EXPECT_TRUE(trees.Delete(snapshot).error() == Errc::kBusy);
  volume.Kill();
  auto& again = volume.store().AllTrees();
  EXPECT_EQ(RecordOf(volume.store(), snapshot).name, "daily");
  EXPECT_TRUE(again.Delete(snapshot).error() == Errc::kBusy);
  ASSERT_TRUE(again.Hold(snapshot, false).has_value());
  EXPECT_TRUE(again.Hold(snapshot, false).error() == Errc::kOutOfRange);
  EXPECT_TRUE(again.Delete(kFirstTree).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(again.Delete(snapshot).has_value());
  EXPECT_TRUE(again.Open(snapshot).error() == Errc::kNotFound);
}

// What says that it was born before a snapshot, and comes after it, is not in the snapshot.
TEST(StoreTrees, AReferenceBornBeforeASnapshotIsNotCommittedAfterIt) {
  Volume volume(3);
  volume.Change(kFirstTree);
  Transaction transaction;
  transaction.Put("a", "b");
  transaction.BornIn(volume.store().OpenEpoch());
  auto late = transaction;
  volume.Snapshot(kFirstTree);
  EXPECT_TRUE(volume.store().Commit(std::move(late)).error() == Errc::kWouldBlock);
  transaction.BornIn(volume.store().OpenEpoch());
  EXPECT_TRUE(volume.store().Commit(std::move(transaction)).has_value());
}

// The free rule: the birth comes first. A block of a clone's origin stays, whoever drops it and
// whatever is deleted before.
TEST(StoreTrees, ACloneKeepsItsOriginsBlocksWhenBothOriginalsDropThem) {
  Volume volume(4);
  for (int count = 0; count < 100; ++count) volume.Change(kFirstTree);
  const auto origin = volume.Snapshot(kFirstTree);
  const auto clone = volume.Clone(origin);
  EXPECT_FALSE(volume.TryDelete(origin)) << "a clone needs it";
  const auto of_clone = volume.Snapshot(clone);
  for (int count = 0; count < 400; ++count) volume.Change(kFirstTree);
  for (int count = 0; count < 400; ++count) volume.Change(clone);
  volume.Compare(false);
  ASSERT_TRUE(volume.TryDelete(of_clone));
  ReclaimAll(volume.store());
  volume.Compare(true);
  ASSERT_TRUE(volume.TryDelete(clone));
  ReclaimAll(volume.store());
  volume.Compare(true);
  ASSERT_TRUE(volume.TryDelete(origin));
  ReclaimAll(volume.store());
  volume.Compare(true);
}

TEST(StoreTrees, RollingBackTakesTheSnapshotsContentAndGivesTheRestBack) {
  Volume volume(5);
  for (int count = 0; count < 200; ++count) volume.Change(kFirstTree);
  const auto snapshot = volume.Snapshot(kFirstTree);
  for (int count = 0; count < 300; ++count) volume.Change(kFirstTree);
  const auto old = volume.store().AllTrees().Open(kFirstTree).value();
  const auto now = volume.RollBack(kFirstTree, snapshot);
  EXPECT_TRUE(old->Get("key1").error() == Errc::kStaleHandle);
  Transaction transaction;
  transaction.Put("a", "b");
  EXPECT_TRUE(old->Commit(std::move(transaction)).error() == Errc::kStaleHandle);
  EXPECT_EQ(RecordOf(volume.store(), now).fileset, kFirstTree);
  volume.Compare(false);
  for (int count = 0; count < 100; ++count) volume.Change(now);
  ReclaimAll(volume.store());
  volume.Compare(true);
  volume.Kill();
  volume.Compare(true);
  ASSERT_TRUE(volume.TryDelete(snapshot));
  ReclaimAll(volume.store());
  volume.Compare(true);
}

TEST(StoreTrees, EverythingRandomWithKillsInBetween) {
  for (std::uint64_t seed = 100; seed < 112; ++seed) {
    SCOPED_TRACE(seed);
    Volume volume(seed);
    for (int step = 0; step < 400; ++step) {
      volume.Step();
      if (step % 50 == 0) volume.Compare(false);
      if (testing::Test::HasFailure()) return;
    }
    volume.Compare(false);
    volume.Kill();
    ReclaimAll(volume.store());
    volume.Compare(true);
    ASSERT_TRUE(volume.store().Close().has_value());
    volume.Open(true);
    EXPECT_FALSE(volume.store().Space().differs_from_tree);
    EXPECT_FALSE(volume.store().Space().was_remade);
    if (testing::Test::HasFailure()) return;
  }
}

// At every write and flush, what the disk may have kept is what was answered, or that and the one
// thing that was being done; and what deleted trees held comes back, also after a second crash.
TEST(StoreTrees, EveryCrashLeavesWhatWasAnswered) {
  const auto seeds = IsLongRun() ? 500U : 8U;
  std::uint64_t states = 0;
  for (std::uint64_t seed = TestSeed(); seed < TestSeed() + seeds; ++seed) {
    SCOPED_TRACE(seed);
    Volume volume(seed);
    volume.WatchCrashes(5);
    for (int step = 0; step < 60; ++step) {
      volume.Step();
      if (testing::Test::HasFailure()) return;
    }
    states += volume.crash_states();
  }
  RecordProperty("crash_states", static_cast<int>(states));
  EXPECT_GT(states, 200U);
}

}  // namespace
}  // namespace filer::engine
