#include "fsal/engine/tree/cow_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace filer::engine {
namespace {

using Model = std::map<std::string, std::string>;

Model Dump(const CowTree::Snapshot& snapshot) {
  Model all;
  snapshot.ForEach([&](std::string_view key, std::string_view value) {
    all.emplace(key, value);
    return true;
  });
  return all;
}

TEST(CowTree, MatchesAMapWhileGrowingAndShrinking) {
  std::mt19937_64 random(11);
  CowTree tree;
  Model model;
  for (int step = 0; step < 200'000; ++step) {
    // Waves: mostly puts, then mostly erases, down to nothing.
    const bool is_growing = (step / 20'000) % 2 == 0;
    const auto key = std::to_string(random() % 20'000);
    if (random() % 10 < (is_growing ? 8U : 1U)) {
      tree.Put(key, std::to_string(step));
      model[key] = std::to_string(step);
    } else {
      EXPECT_EQ(tree.Erase(key), model.erase(key) == 1);
    }
    if (step % 5000 == 0) {
      ASSERT_EQ(tree.CheckForTest(), "");
    }
  }
  EXPECT_EQ(Dump(tree.TakeSnapshot()), model);
  while (!model.empty()) {
    ASSERT_TRUE(tree.Erase(model.begin()->first));
    model.erase(model.begin());
    if (model.size() % 500 == 0) {
      ASSERT_EQ(tree.CheckForTest(), "");
    }
  }
  EXPECT_EQ(tree.size(), 0U);
  EXPECT_FALSE(tree.Find("1"));
  tree.Put("1", "again");
  EXPECT_EQ(tree.Find("1"), "again");
}

TEST(CowTree, ErasingFromTheFrontTheBackAndTheMiddleKeepsTheShape) {
  for (const int order : {0, 1, 2}) {
    CowTree tree;
    for (int at = 10'000; at < 20'000; ++at) tree.Put(std::to_string(at), "");
    for (int at = 0; at < 10'000; ++at) {
      const int key = order == 0   ? 10'000 + at
                      : order == 1 ? 19'999 - at
                                   : 10'000 + (at * 7919) % 10'000;
      ASSERT_TRUE(tree.Erase(std::to_string(key)));
      if (at % 333 == 0) {
        ASSERT_EQ(tree.CheckForTest(), "") << order << " " << at;
      }
    }
    EXPECT_EQ(tree.size(), 0U);
  }
}

TEST(CowTree, ASnapshotDoesNotChange) {
  std::mt19937_64 random(5);
  CowTree tree;
  Model model;
  std::vector<std::pair<CowTree::Snapshot, Model>> snapshots;
  for (int step = 0; step < 30'000; ++step) {
    const auto key = std::to_string(random() % 3000);
    if (random() % 3 != 0) {
      tree.Put(key, std::to_string(step));
      model[key] = std::to_string(step);
    } else {
      tree.Erase(key);
      model.erase(key);
    }
    if (step % 3000 == 0) snapshots.emplace_back(tree.TakeSnapshot(), model);
  }
  for (const auto& [snapshot, expected] : snapshots) EXPECT_EQ(Dump(snapshot), expected);
  EXPECT_EQ(tree.CheckForTest(), "");
}

TEST(CowTree, RangesMatchAMap) {
  std::mt19937_64 random(9);
  CowTree tree;
  Model model;
  for (int at = 0; at < 3000; ++at) {
    const auto key = std::to_string(random() % 100'000);
    tree.Put(key, key);
    model[key] = key;
  }
  for (int at = 0; at < 3000; ++at) {
    const auto from = at % 7 == 0 ? "" : std::to_string(random() % 100'000);
    const auto to = at % 5 == 0 ? "" : std::to_string(random() % 100'000);
    std::vector<std::string> expected;
    for (auto it = model.lower_bound(from); it != model.end() && (to.empty() || it->first < to);
         ++it) {
      expected.push_back(it->first);
    }
    std::vector<std::string> seen;
    tree.Scan(from, to, [&](std::string_view key, std::string_view) {
      seen.emplace_back(key);
      return true;
    });
    ASSERT_EQ(seen, expected) << from << " " << to;
    const auto last = tree.Last(from, to);
    ASSERT_EQ(last.has_value(), !expected.empty()) << from << " " << to;
    if (last) {
      ASSERT_EQ(last->first, expected.back());
    }
  }
}

}  // namespace
}  // namespace filer::engine
