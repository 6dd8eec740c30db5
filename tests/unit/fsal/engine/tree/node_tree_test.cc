#include "fsal/engine/tree/node_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/fsal/engine/tree/store_fixture.h"
#include "tests/unit/fsal/engine/tree/tree_fixture.h"

namespace filer::engine {
namespace {

std::string Key(int number) { return "key" + std::to_string(1'000'000 + number); }

TEST(NodeTree, KeepsKeysInOrderThroughSplitsOnEverySide) {
  for (const int order : {0, 1, 2}) {
    TreeOnDisk tree(64);
    Model model;
    for (int at = 0; at < 6000; ++at) {
      const int number = order == 0 ? at : order == 1 ? 5999 - at : at * 3797 % 6000;
      const std::string value(static_cast<std::size_t>(at) % 50, 'v');
      tree.Put(Key(number), value);
      model[Key(number)] = value;
    }
    EXPECT_GT(tree.dirty_count(), 10U);
    EXPECT_EQ(tree.Dump(), model);
    tree.Checkpoint();
    EXPECT_EQ(tree.Walk(), "");
    EXPECT_EQ(tree.root().key_count, model.size());
    EXPECT_EQ(tree.Dump(), model);
  }
}

// The trap: a leaf is split, and its parent goes on saying that all lies in the left half.
TEST(NodeTree, SeparatorsAreRefreshedAfterASplit) {
  TreeOnDisk tree(1024);
  std::mt19937_64 random(8);
  std::vector<std::string> keys;
  const std::string value(300, 'v');
  for (int at = 0; at < 3000; ++at) {
    // Long common beginnings make long separators; the ends decide.
    auto key = std::string(200, 'p') + RandomBytes(random, 1 + random() % 6);
    tree.Put(key, value);
    keys.push_back(std::move(key));
    const auto& probe = keys[random() % keys.size()];
    ASSERT_TRUE(tree.Get(probe));
    ASSERT_TRUE(tree.Get(keys.back()));
    if (at % 500 != 0) continue;
    tree.Checkpoint();
    ASSERT_EQ(tree.Walk(), "");
  }
  EXPECT_GE(tree.root().level, 1U);
}

TEST(NodeTree, ErasingFromTheFrontTheBackAndTheMiddleFreesEverything) {
  for (const int order : {0, 1, 2}) {
    TreeOnDisk tree(4096);
    constexpr int kCount = 5000;
    for (int at = 0; at < kCount; ++at) tree.Put(Key(at), std::string(60, 'v'));
    tree.Checkpoint();
    const auto nodes_full = tree.space().used_count();
    for (int at = 0; at < kCount; ++at) {
      const int number = order == 0 ? at : order == 1 ? kCount - 1 - at : at * 3797 % kCount;
      tree.Erase(Key(number));
      if (at != kCount * 9 / 10) continue;
      // Small nodes were joined, or a tenth of the keys would keep most of the nodes.
      EXPECT_LT(tree.space().used_count(), nodes_full / 3) << order;
      tree.Checkpoint();
      EXPECT_EQ(tree.Walk(), "");
    }
    EXPECT_EQ(tree.Dump(), Model{});
    EXPECT_EQ(tree.space().used_count(), 0U);
    for (int at = 0; at < 3; ++at) tree.Checkpoint();
    EXPECT_EQ(tree.Walk(), "");
    EXPECT_EQ(tree.space().free_count(), tree.space().unit_count());
    EXPECT_EQ(tree.tree().key_bytes(), 0U);
    tree.Put("again", "1");
    EXPECT_EQ(tree.Get("again"), "1");
  }
}

// A node that goes makes its range its neighbour's. The neighbour need not be in memory, so what
// comes later in the same transaction must not depend on it.
TEST(NodeTree, ATransactionMayEraseALeafAndPutIntoItsRange) {
  TreeOnDisk tree(16);
  Model model;
  for (int at = 0; at < 4000; ++at) {
    model[Key(at)] = std::string(100, 'v');
    tree.Put(Key(at), model[Key(at)]);
    if (at % 100 == 0) tree.Checkpoint();
  }
  tree.Checkpoint();
  for (int from = 0; from < 3000; from += 600) {
    std::vector<TreeOnDisk::Change> changes;
    for (int at = from; at < from + 400; ++at) changes.push_back({Key(at), std::nullopt});
    for (int at = from; at < from + 400; ++at) model.erase(Key(at));
    changes.push_back({Key(from + 200), "back"});
    model[Key(from + 200)] = "back";
    tree.Apply(changes);
    tree.Checkpoint();
    ASSERT_EQ(tree.Walk(), "");
  }
  EXPECT_EQ(tree.Dump(), model);
}

TEST(NodeTree, LongValuesLieInPiecesAndGoWithTheirKey) {
  TreeOnDisk tree(16);
  std::mt19937_64 random(2);
  Model model;
  const std::size_t sizes[] = {kInlineValueBytesMax, kInlineValueBytesMax + 1, kPieceBytesMax,
                               kPieceBytesMax + 1, kNodeValueBytesMax};
  for (int round = 0; round < 3; ++round) {
    for (std::size_t at = 0; at < 40; ++at) {
      model[Key(static_cast<int>(at))] = RandomBytes(random, sizes[random() % 5]);
      tree.Put(Key(static_cast<int>(at)), model[Key(static_cast<int>(at))]);
      if (at % 7 == 0) tree.Checkpoint();
    }
    tree.Checkpoint();
    EXPECT_EQ(tree.Walk(), "");
    EXPECT_EQ(tree.Dump(), model);
  }
  for (const auto& [key, value] : model) {
    EXPECT_EQ(tree.Get(key), value);
    tree.Erase(key);
  }
  EXPECT_EQ(tree.space().used_count(), 0U);
}

TEST(NodeTree, ACheckpointWritesOnlyWhatChanged) {
  TreeOnDisk tree(4096);
  for (int at = 0; at < 20'000; ++at) tree.Put(Key(at), std::string(60, 'v'));
  tree.Checkpoint();
  EXPECT_GT(tree.written(), 80U);
  const auto before = tree.written();
  tree.Put(Key(7), "changed");
  tree.Checkpoint();
  EXPECT_EQ(tree.written() - before, tree.root().level + 1);
  tree.Checkpoint();
  EXPECT_EQ(tree.written() - before, tree.root().level + 1);
}

// What the newest two checkpoints refer to is never overwritten.
TEST(NodeTree, FreedNodesWaitForTwoCheckpoints) {
  TreeOnDisk tree(64);
  tree.Put("a", "1");
  tree.Checkpoint();
  const auto free = tree.space().free_count();
  tree.Put("a", "2");
  EXPECT_EQ(tree.space().pending_count(), 1U);
  EXPECT_EQ(tree.space().free_count(), free - 1);
  tree.Checkpoint();
  EXPECT_EQ(tree.space().pending_count(), 1U);
  tree.Checkpoint();
  EXPECT_EQ(tree.space().pending_count(), 0U);
  EXPECT_EQ(tree.space().free_count(), free);
}

TEST(NodeTree, ChangesDuringACheckpointDoNotReachIt) {
  TreeOnDisk tree(16);
  std::mt19937_64 random(3);
  Model model;
  for (int round = 0; round < 60; ++round) {
    const auto change = [&](int count) {
      for (int at = 0; at < count; ++at) {
        const auto key = Key(static_cast<int>(random() % 6000));
        if (random() % 4 == 0) {
          tree.Erase(key);
          model.erase(key);
        } else {
          model[key] = RandomBytes(random, random() % 200 == 0 ? 40'000 : random() % 900);
          tree.Put(key, model[key]);
        }
      }
    };
    change(100);
    const auto keys = model.size();
    tree.Checkpoint([&] { change(100); });
    ASSERT_EQ(tree.Walk(), "") << round;
    ASSERT_EQ(tree.root().key_count, keys);
  }
  EXPECT_EQ(tree.Dump(), model);
  EXPECT_GT(tree.reads(), 1000U);  // the cache was too small for the tree
}

TEST(NodeTree, ATreeTenTimesItsCacheMatchesAMap) {
  const auto seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  constexpr std::size_t kCachedPages = 16;
  TreeOnDisk tree(kCachedPages);
  Model model;
  const int steps = IsLongRun() ? 1'000'000 : 60'000;
  for (int step = 0; step < steps; ++step) {
    const auto key = Key(static_cast<int>(random() % 40'000));
    const bool is_growing = (step / (steps / 4)) % 2 == 0;
    if (random() % 10 < (is_growing ? 9U : 4U)) {
      model[key] = RandomBytes(random, 200 + random() % 400);
      tree.Put(key, model[key]);
    } else {
      tree.Erase(key);
      model.erase(key);
    }
    const auto probe = Key(static_cast<int>(random() % 40'000));
    const auto at = model.lower_bound(probe);
    const auto found = tree.Get(probe);
    ASSERT_EQ(found.has_value(), at != model.end() && at->first == probe);
    if (found) {
      ASSERT_EQ(*found, at->second);
    }
    const auto last = tree.Last("", probe);
    ASSERT_EQ(last.has_value(), at != model.begin());
    if (last) {
      ASSERT_EQ(last->first, std::prev(at)->first);
    }
    if (tree.dirty_count() > kCachedPages / 2) tree.Checkpoint();
    ASSERT_LE(tree.cache().size(), kCachedPages + 8);
    if (step % (steps / 8) == 0) {
      ASSERT_EQ(tree.Dump(), model);
      ASSERT_EQ(tree.Walk(), "");
    }
  }
  EXPECT_GT(tree.space().used_count(), 10 * kCachedPages);
  EXPECT_EQ(tree.Dump(), model);
  EXPECT_EQ(tree.Dump(Key(100), Key(20'000)),
            Model(model.lower_bound(Key(100)), model.lower_bound(Key(20'000))));
}

// A cold scan waits once for a bunch of leaves, and asks for none behind its end.
TEST(NodeTree, AScanReadsTheLeavesAheadTogether) {
  TreeOnDisk tree(16);
  for (int at = 0; at < 4000; ++at) tree.Put(Key(at), std::string(300, 'v'));
  tree.Checkpoint();
  const auto leaves = tree.space().used_count();
  ASSERT_GT(leaves, 60U);
  const auto reads = tree.reads();
  auto waits = tree.waits();
  EXPECT_EQ(tree.Dump().size(), 4000U);
  EXPECT_LE(tree.waits() - waits, leaves / 8);
  EXPECT_LE(tree.reads() - reads, leaves + 4) << "none twice";
  // Of a part: its own leaves, the way there, and not the fifteen behind.
  waits = tree.waits();
  const auto before = tree.reads();
  EXPECT_EQ(tree.Dump(Key(1000), Key(1200)).size(), 200U);
  EXPECT_LE(tree.reads() - before, 200 * 340 / kNodeBodyBytes + 5);
}

TEST(NodeSpace, GivesOutEachUnitOnceAndKnowsItsEnds) {
  NodeSpace space(1000, 70);
  std::vector<std::uint64_t> blocks;
  while (const auto block = space.Allocate()) blocks.push_back(*block);
  EXPECT_EQ(blocks.size(), 70U);
  std::sort(blocks.begin(), blocks.end());
  for (std::size_t at = 0; at < blocks.size(); ++at) {
    EXPECT_EQ(blocks[at], 1000 + at * kNodeBlocks);
    EXPECT_TRUE(space.Contains(blocks[at]));
  }
  EXPECT_FALSE(space.Contains(1001));
  EXPECT_FALSE(space.Contains(1000 + 70 * kNodeBlocks));
  EXPECT_FALSE(space.Contains(996));
  space.FreeNow(1000 + 69 * kNodeBlocks);
  EXPECT_EQ(space.Allocate(), 1000 + 69 * kNodeBlocks);
  space.FreeLater(1000, 5);
  EXPECT_FALSE(space.Allocate());
  space.Release(5);
  EXPECT_FALSE(space.Allocate());
  space.Release(6);
  EXPECT_FALSE(space.MarkUsed(1000 + kNodeBlocks));
  EXPECT_TRUE(space.MarkUsed(1000));
}

TEST(PageCache, LetsGoOfCleanPagesAndNeverOfDirtyOrHeldOnes) {
  const VolumeUuid uuid{};
  PageCache cache(4);
  const auto add = [&](std::uint64_t block) {
    return cache.AddRead(std::make_shared<Page>(uuid, 0, block, 1));
  };
  const auto held = add(4);
  add(8)->is_dirty = true;
  for (std::uint64_t block = 12; block < 100; block += 4) add(block);
  EXPECT_LE(cache.size(), 4U);
  NodePointer pointer{};
  pointer.birth_epoch = 1;
  for (const std::uint64_t block : {4, 8}) {
    pointer.block = block;
    EXPECT_NE(cache.Find(pointer), nullptr) << block;
  }
  pointer.birth_epoch = 2;  // another life of the same block
  EXPECT_EQ(cache.Find(pointer), nullptr);
  // An older life read late does not replace a newer one, nor the other way round.
  cache.AddRead(std::make_shared<Page>(uuid, 0, 8, 2));
  EXPECT_NE(cache.Find(pointer), nullptr);
  cache.AddRead(std::make_shared<Page>(uuid, 0, 8, 1));
  EXPECT_NE(cache.Find(pointer), nullptr);
}

}  // namespace
}  // namespace filer::engine
