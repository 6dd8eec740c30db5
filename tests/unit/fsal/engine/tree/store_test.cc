#include "fsal/engine/tree/store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

TEST(Store, KeepsWhatWasSyncedAcrossAKill) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  {
    auto store = MustOpen(*device);
    EXPECT_EQ(store->MountEpoch(), 1U);
    EXPECT_TRUE(store->Sync(PutOne(*store, "a", "1")).has_value());
    EXPECT_TRUE(store->Sync(PutOne(*store, "b", "2")).has_value());
  }
  const auto after = DeviceOn(device->StableImage());
  auto store = MustOpen(*after);
  EXPECT_EQ(store->MountEpoch(), 2U);
  EXPECT_EQ(store->Get("a").value(), "1");
  EXPECT_EQ(store->Get("b").value(), "2");
  EXPECT_EQ(store->LastLsn(), 2U);
  EXPECT_EQ(store->Counters().recovered_groups, 2U);
  EXPECT_TRUE(store->Close().has_value());
  store.reset();
  store = MustOpen(*after);
  EXPECT_EQ(store->Get("b").value(), "2");
  EXPECT_EQ(store->Counters().recovered_groups, 0U);
}

TEST(Store, UnsyncedTransactionsMayBeLostButNothingIsWrittenByThem) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  const auto requests = device->RequestCount();
  PutOne(*store, "a", "1");
  EXPECT_EQ(device->RequestCount(), requests);
  EXPECT_EQ(store->Get("a").value(), "1");
  EXPECT_EQ(store->DurableLsn(), 0U);
  store.reset();
  store = MustOpen(*device);
  EXPECT_TRUE(store->Get("a").error() == Errc::kNotFound);
}

TEST(Store, SyncWritesOneGroupAndOneFlush) {
  for (const bool has_cache : {true, false}) {
    auto device = NewDevice({.has_volatile_cache = has_cache});
    ASSERT_TRUE(Store::Format(*device, Named()).has_value());
    auto store = MustOpen(*device);
    std::uint64_t writes = 0;
    std::uint64_t flushes = 0;
    device->SetStepHook([&](SimDevice&, const BlockRequest& request) {
      writes += request.operation == BlockOperation::kWrite;
      flushes += request.operation == BlockOperation::kFlush;
    });
    Lsn last = 0;
    for (int at = 0; at < 100; ++at) last = PutOne(*store, "key" + std::to_string(at), "value");
    ASSERT_TRUE(store->Sync(last).has_value());
    EXPECT_EQ(writes, 1U);
    EXPECT_EQ(flushes, has_cache ? 1U : 0U);
    ASSERT_TRUE(store->Sync(last).has_value());
    EXPECT_EQ(writes, 1U);
    EXPECT_EQ(store->DurableLsn(), last);
  }
}

TEST(Store, ATransactionIsAppliedInOrderAndAtOnce) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  Transaction transaction;
  transaction.Put("a", "1");
  transaction.Put("b", "2");
  transaction.Erase("a");
  transaction.Put("b", "3");
  ASSERT_TRUE(store->Sync(store->Commit(transaction).value()).has_value());
  EXPECT_EQ(Dump(*store), (Model{{"b", "3"}}));
  store.reset();
  store = MustOpen(*device);
  EXPECT_EQ(Dump(*store), (Model{{"b", "3"}}));
}

TEST(Store, ScanAndLastSeeExactlyTheRange) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  for (const char* key : {"a", "b", "ba", "c"}) PutOne(*store, key, key);
  std::string seen;
  const auto scanned = store->Scan("b", "c", [&](std::string_view key, std::string_view) {
    seen += std::string(key) + ",";
    return true;
  });
  EXPECT_TRUE(scanned.has_value());
  EXPECT_EQ(seen, "b,ba,");
  EXPECT_EQ(store->Last("b", "c").value().first, "ba");
  EXPECT_EQ(store->Last("", "").value().first, "c");
  EXPECT_TRUE(store->Last("bb", "c").error() == Errc::kNotFound);
  EXPECT_TRUE(store->Last("d", "").error() == Errc::kNotFound);
}

TEST(Store, RefusesWhatIsTooBigOrEmpty) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  const auto commit = [&](std::string key, std::size_t value_bytes, int count = 1) {
    Transaction transaction;
    for (int at = 0; at < count; ++at) transaction.Put(key, std::string(value_bytes, 'v'));
    return store->Commit(std::move(transaction));
  };
  EXPECT_TRUE(commit("", 1).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(commit(std::string(kKeyBytesMax + 1, 'k'), 1).error() == Errc::kTooBig);
  EXPECT_TRUE(commit("k", kValueBytesMax + 1).error() == Errc::kTooBig);
  EXPECT_TRUE(commit("k", kValueBytesMax, 8).error() == Errc::kTooBig);
  EXPECT_TRUE(store->Sync(store->LastLsn() + 1).error() == Errc::kInvalidArgument);
  const auto largest = commit(std::string(kKeyBytesMax, 'k'), kValueBytesMax, 7);
  ASSERT_TRUE(largest.has_value());
  ASSERT_TRUE(store->Sync(largest.value()).has_value());
  store.reset();
  store = MustOpen(*device);
  EXPECT_EQ(store->Get(std::string(kKeyBytesMax, 'k')).value().size(), kValueBytesMax);
}

// The log holds 8 MiB: without syncs, room is made by checkpoints, and the ring wraps several
// times.
TEST(Store, ALogThatIsFullMakesRoomByACheckpoint) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  std::mt19937_64 random(1);
  Model model;
  for (int at = 0; at < 400; ++at) {
    const auto key = "k" + std::to_string(at % 40);
    model[key] = RandomBytes(random, 100'000);
    PutOne(*store, key, model[key]);
  }
  EXPECT_GE(store->Counters().checkpoints, 4U);
  ASSERT_TRUE(store->Sync(store->LastLsn()).has_value());
  store.reset();
  auto after = DeviceOn(device->StableImage());
  const auto recovered = MustOpen(*after);
  EXPECT_EQ(Dump(*recovered), model);
}

TEST(Store, AQuarterOfTheLogAsksForACheckpoint) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  for (int at = 0; at < 15; ++at) {
    ASSERT_TRUE(store->Sync(PutOne(*store, "k", std::string(100'000, 'v'))).has_value());
  }
  EXPECT_EQ(store->Counters().checkpoints, 0U);
  for (int at = 0; at < 10; ++at) {
    ASSERT_TRUE(store->Sync(PutOne(*store, "k", std::string(100'000, 'v'))).has_value());
  }
  EXPECT_EQ(store->Counters().checkpoints, 1U);
}

TEST(Store, AFullNodeRegionIsSaidAtCommitAndErasingStillWorks) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  const std::string value(kValueBytesMax, 'v');
  Model model;
  Errc refused = Errc::kInvalidArgument;
  for (int at = 0; at < 1000; ++at) {
    Transaction transaction;
    const auto key = "k" + std::to_string(at);
    transaction.Put(key, value);
    const auto committed = store->Commit(std::move(transaction));
    if (!committed.has_value()) {
      refused = committed.error().code();
      break;
    }
    model[key] = value;
  }
  EXPECT_EQ(refused, Errc::kNoSpace);
  EXPECT_GT(model.size(), 190U);  // of 227 that 32 MiB would hold
  EXPECT_TRUE(store->Checkpoint().has_value());
  // Overwriting adds nothing, and what it takes comes back: any number of times.
  for (int at = 0; at < 100; ++at) PutOne(*store, "k" + std::to_string(at % 5), value);
  Transaction exchange;  // erasing may use what is held back
  exchange.Erase("no such key");
  exchange.Put("note", "erased");
  EXPECT_TRUE(store->Commit(exchange).has_value());
  model["note"] = "erased";
  EXPECT_TRUE(store->Checkpoint().has_value());
  EXPECT_EQ(Dump(*store), model);
  Transaction erase;
  for (const char* key : {"k1", "k2", "k4", "k5"}) {
    erase.Erase(key);
    model.erase(key);
  }
  ASSERT_TRUE(store->Commit(erase).has_value());
  PutOne(*store, "k3", value);
  PutOne(*store, "new", value);
  model["new"] = value;
  ASSERT_TRUE(store->Sync(store->LastLsn()).has_value());
  store.reset();
  store = MustOpen(*device);
  EXPECT_EQ(Dump(*store), model);
}

TEST(Store, AFullVolumeCanBeEmptiedKeyByKeyAndFilledAgain) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, SmallCache());
  std::uint64_t counts[2] = {};
  for (auto& count : counts) {
    for (;; ++count) {
      Transaction transaction;
      transaction.Put("k" + std::to_string(count), std::string(40'000, 'v'));
      const auto committed = store->Commit(std::move(transaction));
      if (committed.has_value()) continue;
      ASSERT_TRUE(committed.error() == Errc::kNoSpace);
      break;
    }
    ASSERT_GT(count, 500U);
    for (std::uint64_t at = 0; at < count; ++at) {
      Transaction transaction;
      transaction.Erase("k" + std::to_string(at));
      ASSERT_TRUE(store->Commit(std::move(transaction)).has_value());
    }
    EXPECT_EQ(Dump(*store), Model{});
  }
  EXPECT_EQ(counts[0], counts[1]);
  for (int at = 0; at < 2; ++at) {
    PutOne(*store, "k", "v");
    ASSERT_TRUE(store->Checkpoint().has_value());
  }
  Transaction last;
  last.Erase("k");
  ASSERT_TRUE(store->Commit(last).has_value());
  for (int at = 0; at < 3; ++at) {
    PutOne(*store, "k", "v");
    ASSERT_TRUE(store->Checkpoint().has_value());
  }
  const auto counters = store->Counters();
  EXPECT_GE(counters.free_node_units + 4, counters.node_units);  // nothing leaked
}

// The trap of whole-block redo: the log holds what changed, not the nodes it changed.
TEST(Store, TheLogHoldsKeysNotNodes) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  for (int at = 0; at < 5000; ++at) PutOne(*store, "key" + std::to_string(at), "value");
  ASSERT_TRUE(store->Sync(store->LastLsn()).has_value());
  const auto before = store->Counters();
  ASSERT_TRUE(store->Sync(PutOne(*store, "key77", "other")).has_value());
  EXPECT_EQ(store->Counters().group_bytes - before.group_bytes, 4096U);
}

// The trap of replaying twice: what recovery wrote into its checkpoint is not in the log any more.
TEST(Store, ALogIsReplayedOnceAlsoIfTheNextOneDiesAtOnce) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  for (int at = 0; at < 5; ++at) {
    ASSERT_TRUE(store->Sync(PutOne(*store, "k" + std::to_string(at), "v")).has_value());
  }
  store.reset();
  for (int life = 0; life < 3; ++life) {
    store = MustOpen(*device);
    EXPECT_EQ(store->Counters().recovered_groups, life == 0 ? 5U : 0U);
    EXPECT_EQ(store->LastLsn(), 5U);
    EXPECT_EQ(store->Counters().keys, 5U);
    store.reset();
  }
}

// A checkpoint takes no room in the log, or the one that is to make room would wait for itself.
TEST(Store, ACheckpointOfAFullLogDoesNotWaitForItself) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 4; ++writer) {
    threads.emplace_back([&, writer] {
      for (int at = 0; at < 60; ++at) {
        PutOne(*store, std::to_string(writer), std::string(120'000, static_cast<char>('a' + at)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GE(store->Counters().checkpoints, 3U);
  ASSERT_TRUE(store->Close().has_value());
}

TEST(Store, MemoryStaysBoundedWhereTheTreeIsMuchLarger) {
  auto device = NewDevice({.size_bytes = 256 << 20});
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  StoreOpenOptions options;
  options.cache_bytes = 64 * 16384;
  auto store = MustOpen(*device, options);
  std::mt19937_64 random(9);
  Model model;
  for (int at = 0; at < 12'000; ++at) {
    const auto key = std::to_string(random() % 1'000'000);
    model[key] = RandomBytes(random, 700 + random() % 300);
    PutOne(*store, key, model[key]);
    if (at % 200 == 0) {
      ASSERT_LE(store->Counters().cached_nodes, 64U + 32U);
    }
  }
  const auto counters = store->Counters();
  EXPECT_GT(counters.node_units - counters.free_node_units, 640U);
  EXPECT_GT(counters.nodes_read, 1000U);
  EXPECT_EQ(Dump(*store), model);
  ASSERT_TRUE(store->Sync(store->LastLsn()).has_value());
  store.reset();
  store = MustOpen(*device, options);
  EXPECT_EQ(Dump(*store), model);
}

TEST(Store, OpenReadOnlyWritesNothing) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  ASSERT_TRUE(store->Sync(PutOne(*store, "a", "1")).has_value());
  store.reset();
  auto copy = DeviceOn(device->CurrentImage(), {.is_read_only = true});
  EXPECT_TRUE(Store::Open(*copy, SystemClock(), false).error() == Errc::kReadOnly);
  const auto reader = MustOpen(*copy, true);
  EXPECT_EQ(reader->Get("a").value(), "1");
  Transaction transaction;
  transaction.Put("b", "2");
  EXPECT_TRUE(reader->Commit(transaction).error() == Errc::kReadOnly);
  EXPECT_TRUE(reader->Close().has_value());
  EXPECT_TRUE(copy->CurrentImage().SameContents(device->CurrentImage()));
}

void MatchAMap(const StoreOpenOptions& options, int steps) {
  const auto seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  auto device = NewDevice({.seed = seed});
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, options);
  Model model;
  for (int step = 0; step < steps; ++step) {
    auto transaction = RandomTransaction(random, 2000, step % 50 == 0 ? 20'000 : 60);
    ApplyTo(model, transaction);
    const auto lsn = store->Commit(std::move(transaction));
    ASSERT_TRUE(lsn.has_value());
    const auto dice = random() % 1000;
    if (dice < 50) {
      ASSERT_TRUE(store->Sync(lsn.value()).has_value());
    }
    if (dice == 51) {
      ASSERT_TRUE(store->Checkpoint().has_value());
    }
    if (dice == 52) {
      ASSERT_TRUE(random() % 2 == 0 ? store->Close().has_value()
                                    : store->Sync(lsn.value()).has_value());
      store.reset();
      store = MustOpen(*device, options);
      ASSERT_EQ(store->LastLsn(), lsn.value());
      ASSERT_EQ(Dump(*store), model);
    }
    const auto key = "k" + std::to_string(random() % 2000);
    const auto at = model.find(key);
    const auto got = store->Get(key);
    ASSERT_EQ(got.has_value(), at != model.end());
    if (got.has_value()) {
      ASSERT_EQ(got.value(), at->second);
    }
    const auto before = model.lower_bound(key);
    const auto last = store->Last("", key);
    ASSERT_EQ(last.has_value(), before != model.begin());
    if (last.has_value()) {
      ASSERT_EQ(last.value().first, std::prev(before)->first);
    }
  }
  EXPECT_EQ(Dump(*store), model);
}

TEST(Store, RandomTransactionsAndReopensMatchAMap) {
  MatchAMap({}, IsLongRun() ? 1'000'000 : 30'000);
}

TEST(Store, RandomTransactionsAndReopensMatchAMapWithTheSmallestCache) {
  MatchAMap(SmallCache(), IsLongRun() ? 1'000'000 : 10'000);
}

// Every thread owns some keys; others read and checkpoint. What each had synced must be there
// afterwards.
void ShareGroupsAndLoseNothing(const StoreOpenOptions& options) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, options);
  constexpr int kWriters = 6;
  const int commits = IsLongRun() ? 20'000 : 400;
  std::atomic<bool> is_done{false};
  std::vector<Model> models(kWriters);
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937_64 random(static_cast<std::uint64_t>(writer) + 1);
      auto& model = models[static_cast<std::size_t>(writer)];
      for (int at = 0; at < commits; ++at) {
        const auto key =
            std::string(1, static_cast<char>('a' + writer)) + std::to_string(random() % 100);
        auto value = RandomBytes(random, random() % 4000);
        model[key] = value;
        const auto lsn = PutOne(*store, key, std::move(value));
        ASSERT_TRUE(store->Sync(lsn).has_value());
        ASSERT_GE(store->DurableLsn(), lsn);
        ASSERT_EQ(store->Get(key).value(), model[key]);
      }
    });
  }
  threads.emplace_back([&] {
    while (!is_done.load()) {
      ASSERT_TRUE(store->Checkpoint().has_value());
      std::string previous;
      const auto scanned = store->Scan("", "", [&](std::string_view key, std::string_view) {
        EXPECT_LT(previous, key);
        previous = std::string(key);
        return true;
      });
      EXPECT_TRUE(scanned.has_value());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  for (int writer = 0; writer < kWriters; ++writer)
    threads[static_cast<std::size_t>(writer)].join();
  is_done.store(true);
  threads.back().join();
  EXPECT_GT(store->Counters().checkpoints, 1U);
  EXPECT_EQ(store->Counters().commits, static_cast<std::uint64_t>(kWriters * commits));
  store.reset();
  auto after = DeviceOn(device->StableImage());
  const auto recovered = MustOpen(*after);
  Model all;
  for (const auto& model : models) all.insert(model.begin(), model.end());
  EXPECT_EQ(Dump(*recovered), all);
}

TEST(Store, ThreadsShareGroupsAndLoseNothing) { ShareGroupsAndLoseNothing({}); }

TEST(Store, ThreadsThatMissNodesLoseNothing) { ShareGroupsAndLoseNothing(SmallCache()); }

}  // namespace
}  // namespace filer::engine
