// Trees of a store: filesets, snapshots, clones, roll-back; held against a model of maps, with
// kills in between, and what is in use against what the trees refer to.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <set>

#include "fsal/engine/tree/trees.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

// A key that begins with "run" refers to blocks: "run FIRST COUNT"; its value is the birth.
std::string RunKey(BlockRun run) {
  char key[64];
  std::snprintf(key, sizeof(key), "run %012lu %lu", run.first, run.count);
  return key;
}
Result<DroppedRun> RunOfTestPair(std::string_view key, std::string_view value) {
  DroppedRun run;
  if (!key.starts_with("run ")) return run;
  std::sscanf(std::string(key).c_str(), "run %lu %lu", &run.run.first, &run.run.count);
  run.birth_epoch = std::stoull(std::string(value));
  return run;
}

StoreOpenOptions Options(bool must_walk = false) {
  StoreOpenOptions options;
  options.run_of = RunOfTestPair;
  options.must_walk = must_walk;
  options.cache_bytes = 1 << 20;  // nodes have to come and go
  return options;
}

using Content = std::map<std::string, std::string>;

Content ContentOf(Store& store, TreeId tree) {
  Content content;
  const auto view = store.AllTrees().Open(tree).value();
  view->Scan("", "",
             [&](std::string_view key, std::string_view value) {
               content.emplace(key, value);
               return true;
             })
      .value();
  return content;
}

TreeRecord RecordOf(Store& store, TreeId tree) {
  for (const auto& record : store.AllTrees().List()) {
    if (record.id == tree) return record;
  }
  ADD_FAILURE() << "no tree " << tree;
  return {};
}

std::uint64_t UsedCount(const Store& store) {
  std::uint64_t count = 0;
  for (const auto word : store.UsedBlocks())
    count += static_cast<std::uint64_t>(std::popcount(word));
  return count;
}

void ReclaimAll(Store& store) {
  for (;;) {
    const auto done = store.AllTrees().ReclaimSome();
    ASSERT_TRUE(done.has_value()) << done.error().message();
    if (!done.value().has_more) break;
  }
  EXPECT_FALSE(store.AllTrees().HasReclaims());
}

// A store with a model of each of its trees.
class Volume {
 public:
  explicit Volume(std::uint64_t seed) : random_(seed), device_(NewDevice()) {
    EXPECT_TRUE(Store::Format(*device_, Named()).has_value());
    Open();
    live_[kFirstTree] = {};
  }

  Store& store() { return *store_; }
  std::mt19937_64& random() { return random_; }
  void Open(bool must_walk = false) {
    store_.reset();
    store_ = MustOpen(*device_, Options(must_walk));
  }
  void Kill() { Open(); }
  std::uint64_t Below(std::uint64_t limit) { return random_() % limit; }

  // A few changes of one fileset in one transaction.
  void Change(TreeId tree) {
    auto& model = live_.at(tree);
    const auto view = store_->AllTrees().Open(tree).value();
    Transaction transaction;
    const auto birth = view->OpenEpoch();
    transaction.BornIn(birth);
    Content next = model;
    for (std::uint64_t count = 1 + Below(8); count > 0; --count) {
      const auto kind = Below(10);
      if (kind < 3) {
        const auto key = "key" + std::to_string(Below(2000));
        const std::string value(Below(20) == 0 ? 5000 : Below(60),
                                static_cast<char>('a' + Below(26)));
        transaction.Put(key, value);
        next[key] = value;
      } else if (kind < 4) {
        const auto key = "key" + std::to_string(Below(2000));
        transaction.Erase(key);
        next.erase(key);
      } else if (kind < 7) {
        const BlockRun run{FreeRun(3), 3};
        if (run.first == 0 || taken_.contains(run.first)) continue;
        taken_.insert(run.first);
        transaction.Use(run);
        transaction.Put(RunKey(run), std::to_string(birth));
        next[RunKey(run)] = std::to_string(birth);
      } else {
        const auto geometry = store_->Geometry();
        const BlockRun near{geometry.data_first_block + Below(geometry.data_block_count), 0};
        const auto found = next.lower_bound(RunKey(near));
        if (found == next.end() || !found->first.starts_with("run ")) continue;
        const auto run = RunOfTestPair(found->first, found->second).value();
        if (taken_.contains(run.run.first)) continue;  // of this very transaction
        transaction.Erase(found->first);
        transaction.Drop(run.run, run.birth_epoch);
        next.erase(found);
      }
    }
    taken_.clear();
    if (transaction.empty()) return;
    const auto committed = view->Commit(std::move(transaction));
    ASSERT_TRUE(committed.has_value()) << committed.error().message();
    model = std::move(next);
    ASSERT_TRUE(store_->Sync(committed.value()).has_value());
  }

  TreeId Snapshot(TreeId of) {
    const auto made = store_->AllTrees().MakeSnapshot(of, NewName());
    EXPECT_TRUE(made.has_value()) << made.error().message();
    frozen_[made.value()] = live_.at(of);
    return made.value();
  }
  TreeId Clone(TreeId snapshot) {
    const auto made = store_->AllTrees().Clone(snapshot, NewName());
    EXPECT_TRUE(made.has_value()) << made.error().message();
    live_[made.value()] = frozen_.at(snapshot);
    return made.value();
  }
  TreeId RollBack(TreeId live, TreeId to) {
    const auto made = store_->AllTrees().RollBack(live);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    live_.erase(live);
    live_[made.value()] = frozen_.at(to);
    return made.value();
  }
  bool TryDelete(TreeId tree) {
    const auto gone = store_->AllTrees().Delete(tree);
    if (!gone.has_value()) return false;
    live_.erase(tree);
    frozen_.erase(tree);
    return true;
  }

  // All trees are what the model says; `is_idle`: and nothing else is in use.
  void Compare(bool is_idle) {
    std::set<std::uint64_t> wanted;
    std::size_t named = 0;
    for (const auto* models : {&live_, &frozen_}) {
      for (const auto& [tree, content] : *models) {
        ++named;
        ASSERT_EQ(ContentOf(*store_, tree), content) << "tree " << tree;
        for (const auto& [key, value] : content) {
          const auto run = RunOfTestPair(key, value).value().run;
          for (std::uint64_t at = 0; at < run.count; ++at) wanted.insert(run.first + at);
        }
      }
    }
    const auto used = store_->UsedBlocks();
    const auto first = store_->Geometry().data_first_block;
    for (const auto block : wanted) {
      ASSERT_TRUE(used[(block - first) / 64] >> (block - first) % 64 & 1) << block;
    }
    if (!is_idle) return;
    std::size_t listed = 0;
    for (const auto& record : store_->AllTrees().List()) {
      listed += record.kind == TreeKind::kLive || record.kind == TreeKind::kSnapshot;
      EXPECT_NE(record.kind, TreeKind::kDeadTree);
      EXPECT_NE(record.kind, TreeKind::kDeadList);
    }
    EXPECT_EQ(listed, named);
    ASSERT_EQ(UsedCount(*store_), wanted.size());
  }

  const std::map<TreeId, Content>& live() const { return live_; }
  const std::map<TreeId, Content>& frozen() const { return frozen_; }
  BlockDevice& device() { return *device_; }
  TreeId Any(const std::map<TreeId, Content>& of) {
    auto at = of.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(Below(of.size())));
    return at->first;
  }

 private:
  std::uint64_t FreeRun(std::uint64_t count) {
    const auto used = store_->UsedBlocks();
    const auto first = store_->Geometry().data_first_block;
    for (int attempt = 0; attempt < 50; ++attempt) {
      const auto at = Below(store_->Geometry().data_block_count / count - 1) * count;
      bool is_free = true;
      for (std::uint64_t bit = at; bit < at + count; ++bit) {
        is_free = is_free && (used[bit / 64] >> bit % 64 & 1) == 0;
      }
      if (is_free) return first + at;
    }
    return 0;
  }
  std::string NewName() { return "n" + std::to_string(++names_); }

  std::mt19937_64 random_;
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<Store> store_;
  std::map<TreeId, Content> live_, frozen_;
  std::set<std::uint64_t> taken_;
  std::uint64_t names_ = 0;
};

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
      const auto kind = volume.Below(100);
      if (kind < 70) {
        volume.Change(volume.Any(volume.live()));
      } else if (kind < 75) {
        if (volume.frozen().size() < 12) volume.Snapshot(volume.Any(volume.live()));
      } else if (kind < 78) {
        if (!volume.frozen().empty() && volume.live().size() < 5) {
          volume.Clone(volume.Any(volume.frozen()));
        }
      } else if (kind < 83) {
        if (!volume.frozen().empty()) volume.TryDelete(volume.Any(volume.frozen()));
      } else if (kind < 85) {
        volume.TryDelete(volume.Any(volume.live()));
      } else if (kind < 87) {
        const auto live = volume.Any(volume.live());
        const auto fileset = RecordOf(volume.store(), live).fileset;
        TreeId newest = 0;
        for (const auto& record : volume.store().AllTrees().List()) {
          if (record.kind == TreeKind::kSnapshot && record.fileset == fileset) newest = record.id;
        }
        if (newest != 0) volume.RollBack(live, newest);
      } else if (kind < 93) {
        ASSERT_TRUE(volume.store().AllTrees().ReclaimSome().has_value());
      } else if (kind < 96) {
        ASSERT_TRUE(volume.store().Checkpoint().has_value());
      } else {
        volume.Kill();
      }
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

}  // namespace
}  // namespace filer::engine
