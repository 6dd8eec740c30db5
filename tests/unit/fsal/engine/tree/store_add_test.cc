// Transaction::Add: sums that many add to at once, over kills, crashes and small caches.
#include <cstring>
#include <thread>

#include "base/endian.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

using Sums = std::array<std::uint64_t, kSums>;

Sums SumsOf(const Store& store, const std::string& key) {
  const auto value = store.Get(key);
  le64 words[kSums] = {};
  if (value.has_value()) {
    EXPECT_EQ(value.value().size(), sizeof(words));
    std::memcpy(words, value.value().data(), sizeof(words));
  }
  return {words[0], words[1]};
}

Lsn AddOne(Store& store, const std::string& key, std::int64_t first, std::int64_t second) {
  Transaction transaction;
  transaction.Add(key, {first, second});
  const auto committed = store.Commit(std::move(transaction));
  EXPECT_TRUE(committed.has_value()) << committed.error().message();
  return committed.has_value() ? committed.value() : 0;
}

TEST(StoreAdd, AddsUpAndStaysAtZero) {
  const auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  AddOne(*store, "a", 5, 0);
  AddOne(*store, "a", -2, 1);
  EXPECT_EQ(SumsOf(*store, "a"), (Sums{3, 1}));
  AddOne(*store, "a", -9, INT64_MAX);
  EXPECT_EQ(SumsOf(*store, "a"), (Sums{0, std::uint64_t{INT64_MAX} + 1}));
  AddOne(*store, "a", 0, INT64_MIN);
  EXPECT_EQ(SumsOf(*store, "a"), (Sums{0, 0}));
  Transaction several;
  several.Put("b", "value");
  several.Add("a", {1, 2});
  several.Add("c", {3, 4});
  ASSERT_TRUE(store->Sync(store->Commit(std::move(several)).value()).has_value());
  EXPECT_EQ(SumsOf(*store, "c"), (Sums{3, 4}));
  EXPECT_EQ(store->Get("b").value(), "value");
  store.reset();  // killed: the log says it all, once
  store = MustOpen(*device);
  EXPECT_EQ(SumsOf(*store, "a"), (Sums{1, 2}));
  store.reset();
  store = MustOpen(*device);
  EXPECT_EQ(SumsOf(*store, "a"), (Sums{1, 2}));
  EXPECT_EQ(SumsOf(*store, "c"), (Sums{3, 4}));
}

TEST(StoreAdd, RefusesWhatIsNoSum) {
  const auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  const auto store = MustOpen(*device);
  PutOne(*store, "text", "no sum");
  const auto refused = [&](std::string key) {
    Transaction transaction;
    transaction.Put("beside", "it");
    transaction.Add(std::move(key), {1, 1});
    return store->Commit(std::move(transaction)).error();
  };
  EXPECT_TRUE(refused("text") == Errc::kCorrupt);
  EXPECT_TRUE(refused("") == Errc::kInvalidArgument);
  EXPECT_TRUE(refused(std::string(kKeyBytesMax + 1, 'x')) == Errc::kTooBig);
  EXPECT_TRUE(store->Get("beside").error() == Errc::kNotFound);  // nothing is changed
  EXPECT_EQ(store->Get("text").value(), "no sum");
}

// Keys that leave memory between the commits, threads that add to the same ones, checkpoints.
TEST(StoreAdd, ThreadsLoseNothing) {
  SimOptions device_options;
  device_options.size_bytes = 256ULL << 20;
  const auto device = NewDevice(device_options);
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device, SmallCache());
  for (int at = 0; at < 400; ++at) {
    PutOne(*store, "k" + std::to_string(at), std::string(2000, 'v'));  // between the sums
  }
  constexpr int kThreads = 6, kRounds = 300, kKeys = 10;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&store, thread] {
      for (int at = 0; at < kRounds; ++at) {
        AddOne(*store, "k" + std::to_string((at + thread) % kKeys * 40) + "+", 3, at % 2);
        if (at % 100 != thread * 10) continue;
        EXPECT_TRUE(store->Checkpoint().has_value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto all_are_there = [&] {
    std::uint64_t first = 0, second = 0;
    for (int key = 0; key < kKeys; ++key) {
      const Sums sums = SumsOf(*store, "k" + std::to_string(key * 40) + "+");
      first += sums[0];
      second += sums[1];
    }
    EXPECT_EQ(first, 3U * kThreads * kRounds);
    EXPECT_EQ(second, kThreads * kRounds / 2U);
  };
  all_are_there();
  ASSERT_TRUE(store->Sync(store->LastLsn()).has_value());
  store.reset();
  store = MustOpen(*device);
  all_are_there();
}

}  // namespace
}  // namespace filer::engine
