// trees_fixture.h: a store with a model of each of its trees, for random changes, snapshots,
// clones, roll-backs and deletions.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "fsal/engine/tree/trees.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {

// A key that begins with "run" refers to blocks: "run FIRST COUNT"; its value is the birth.
inline std::string RunKey(BlockRun run) {
  char key[64];
  std::snprintf(key, sizeof(key), "run %012lu %lu", run.first, run.count);
  return key;
}
inline Result<DroppedRun> RunOfTestPair(std::string_view key, std::string_view value) {
  DroppedRun run;
  if (!key.starts_with("run ")) return run;
  std::sscanf(std::string(key).c_str(), "run %lu %lu", &run.run.first, &run.run.count);
  run.birth_epoch = std::stoull(std::string(value));
  return run;
}

inline StoreOpenOptions Options(bool must_walk = false) {
  StoreOpenOptions options;
  options.run_of = RunOfTestPair;
  options.must_walk = must_walk;
  options.cache_bytes = 1 << 20;  // nodes have to come and go
  return options;
}

using Content = std::map<std::string, std::string>;

inline Content ContentOf(Store& store, TreeId tree) {
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

inline TreeRecord RecordOf(Store& store, TreeId tree) {
  for (const auto& record : store.AllTrees().List()) {
    if (record.id == tree) return record;
  }
  ADD_FAILURE() << "no tree " << tree;
  return {};
}

inline std::uint64_t UsedCount(const Store& store) {
  std::uint64_t count = 0;
  for (const auto word : store.UsedBlocks())
    count += static_cast<std::uint64_t>(std::popcount(word));
  return count;
}

inline void ReclaimAll(Store& store) {
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
    names_[kFirstTree] = kFirstTreeName;
    next_ = Now();
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
    next_.live[names_[tree]] = next;
    const auto committed = view->Commit(std::move(transaction));
    ASSERT_TRUE(committed.has_value()) << committed.error().message();
    ASSERT_TRUE(store_->Sync(committed.value()).has_value());
    model = std::move(next);
  }

  TreeId Snapshot(TreeId of) {
    const auto name = NewName();
    next_.frozen[name] = live_.at(of);
    const auto made = store_->AllTrees().MakeSnapshot(of, name);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    frozen_[made.value()] = live_.at(of);
    names_[made.value()] = name;
    return made.value();
  }
  TreeId Clone(TreeId snapshot) {
    const auto name = NewName();
    next_.live[name] = frozen_.at(snapshot);
    const auto made = store_->AllTrees().Clone(snapshot, name);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    live_[made.value()] = frozen_.at(snapshot);
    names_[made.value()] = name;
    return made.value();
  }
  TreeId RollBack(TreeId live, TreeId to) {
    next_.live[names_[live]] = frozen_.at(to);
    const auto made = store_->AllTrees().RollBack(live);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    live_.erase(live);
    live_[made.value()] = frozen_.at(to);
    names_[made.value()] = names_[live];
    return made.value();
  }
  bool TryDelete(TreeId tree) {
    next_.live.erase(names_[tree]);
    next_.frozen.erase(names_[tree]);
    const auto gone = store_->AllTrees().Delete(tree);
    if (!gone.has_value()) return false;
    live_.erase(tree);
    frozen_.erase(tree);
    return true;
  }

  // Something, at random.
  void Step() {
    next_ = Now();
    const auto kind = Below(100);
    if (kind < 70) {
      Change(Any(live_));
    } else if (kind < 75) {
      if (frozen_.size() < 12) Snapshot(Any(live_));
    } else if (kind < 78) {
      if (!frozen_.empty() && live_.size() < 5) Clone(Any(frozen_));
    } else if (kind < 83) {
      if (!frozen_.empty()) TryDelete(Any(frozen_));
    } else if (kind < 85) {
      TryDelete(Any(live_));
    } else if (kind < 87) {
      const auto live = Any(live_);
      const auto fileset = RecordOf(*store_, live).fileset;
      TreeId newest = 0;
      for (const auto& record : store_->AllTrees().List()) {
        if (record.kind == TreeKind::kSnapshot && record.fileset == fileset) newest = record.id;
      }
      if (newest != 0) RollBack(live, newest);
    } else if (kind < 93) {
      ASSERT_TRUE(store_->AllTrees().ReclaimSome().has_value());
    } else if (kind < 96) {
      ASSERT_TRUE(store_->Checkpoint().has_value());
    } else {
      Kill();
    }
  }

  // From now on looks at what a power cut would leave, at one write or flush of `stride`.
  void WatchCrashes(std::uint64_t stride) {
    device_->SetStepHook([this, stride](SimDevice& device, const BlockRequest& request) {
      if (request.operation == BlockOperation::kRead || ++requests_ % stride != 0) return;
      Verify(device.CrashImage(random_()));
    });
  }
  std::uint64_t crash_states() const { return crash_states_; }

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
  std::string NewName() { return "n" + std::to_string(++name_count_); }

  struct State {
    std::map<std::string, Content> live, frozen;  // by name
    friend bool operator==(const State&, const State&) = default;
  };
  State Now() const {
    State state;
    for (const auto& [tree, content] : live_) state.live[names_.at(tree)] = content;
    for (const auto& [tree, content] : frozen_) state.frozen[names_.at(tree)] = content;
    return state;
  }
  static State StateOf(Store& store) {
    State state;
    for (const auto& record : store.AllTrees().List()) {
      if (record.kind == TreeKind::kLive) state.live[record.name] = ContentOf(store, record.id);
      if (record.kind == TreeKind::kSnapshot) {
        state.frozen[record.name] = ContentOf(store, record.id);
      }
    }
    return state;
  }
  static std::uint64_t BlocksOf(const State& state) {
    std::set<std::uint64_t> blocks;
    for (const auto* contents : {&state.live, &state.frozen}) {
      for (const auto& [name, content] : *contents) {
        for (const auto& [key, value] : content) {
          const auto run = RunOfTestPair(key, value).value().run;
          for (std::uint64_t at = 0; at < run.count; ++at) blocks.insert(run.first + at);
        }
      }
    }
    return blocks.size();
  }

  void Verify(const SimImage& image) {
    if (testing::Test::HasFailure()) return;
    auto device = DeviceOn(image);
    if (++crash_states_ % 3 == 0) {  // again, on the way back
      device->CutPowerAfter(random_() % 60);
      if (auto store = Store::Open(*device, SystemClock(), Options()); store.has_value()) {
        for (bool has_more = true; has_more;) {
          const auto done = store.value()->AllTrees().ReclaimSome();
          has_more = done.has_value() && done.value().has_more;
        }
      }
      device = DeviceOn(device->CrashImage(random_()));
    }
    auto store = Store::Open(*device, SystemClock(), Options());
    ASSERT_TRUE(store.has_value()) << store.error().message();
    EXPECT_FALSE(store.value()->Space().was_remade);
    const auto state = StateOf(*store.value());
    ASSERT_TRUE(state == Now() || state == next_) << "neither what was answered nor what came next";
    ReclaimAll(*store.value());
    ASSERT_TRUE(StateOf(*store.value()) == state);
    ASSERT_EQ(UsedCount(*store.value()), BlocksOf(state));
    ASSERT_TRUE(store.value()->Close().has_value());
    const auto walked = Store::Open(*device, SystemClock(), Options(true));
    ASSERT_TRUE(walked.has_value()) << walked.error().message();
    EXPECT_FALSE(walked.value()->Space().differs_from_tree);
    EXPECT_FALSE(walked.value()->Space().was_remade);
  }

  std::mt19937_64 random_;
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<Store> store_;
  std::map<TreeId, Content> live_, frozen_;
  std::map<TreeId, std::string> names_;
  State next_;  // once what is being done now is done
  std::set<std::uint64_t> taken_;
  std::uint64_t name_count_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t crash_states_ = 0;
};

}  // namespace filer::engine
