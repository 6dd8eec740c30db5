// Power cuts and failing requests at every point of the store's life.
#include <gtest/gtest.h>

#include "fsal/engine/format/label.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

// All that was ever committed, by LSN, and how much of it was acknowledged.
struct History {
  std::vector<Model> states{Model{}};  // states[lsn]
  Lsn acknowledged = 0;
  std::uint64_t mount_epoch = 0;  // greatest that an Open returned
};

// Opens what a crash left and compares. Returns how many transactions it holds; nullopt: failed.
std::optional<Lsn> Verify(SimDevice& device, const History& history) {
  auto opened = Store::Open(device, SystemClock(), SmallCache());
  EXPECT_TRUE(opened.has_value()) << opened.error().message();
  if (!opened.has_value()) return std::nullopt;
  const auto& store = *opened.value();
  const auto lsn = store.LastLsn();
  EXPECT_GE(lsn, history.acknowledged) << "an acknowledged transaction was lost";
  EXPECT_LT(lsn, history.states.size());
  EXPECT_GT(store.MountEpoch(), history.mount_epoch);
  if (lsn < history.acknowledged || lsn >= history.states.size()) return std::nullopt;
  EXPECT_TRUE(Dump(store) == history.states[lsn]) << "not the state of transaction " << lsn;
  return lsn;
}

// Crashes the recovery of `image`, too, then verifies.
void VerifyWithSecondCrash(const SimImage& image, const History& history, std::uint64_t seed) {
  auto device = DeviceOn(image, {.seed = seed});
  device->CutPowerAfter(seed % 24);
  { const auto opened = Store::Open(*device, SystemClock(), false); }
  auto again = DeviceOn(device->CrashImage(seed));
  Verify(*again, history);
}

class CrashWorkload {
 public:
  explicit CrashWorkload(std::uint64_t seed, StoreOpenOptions options = {}, int key_count = 30)
      : random_(seed),
        device_(NewDevice({.seed = seed})),
        options_(options),
        key_count_(static_cast<std::uint64_t>(key_count)) {}

  void Run(int rounds, int steps, std::size_t value_bytes_max, std::uint64_t stride) {
    ASSERT_TRUE(Store::Format(*device_, Named()).has_value());
    for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
      stride_ = stride;
      Watch();
      auto store = MustOpen(*device_, options_);
      ASSERT_NE(store, nullptr);
      history_.mount_epoch = store->MountEpoch();
      for (int step = 0; step < steps; ++step) Step(*store, value_bytes_max);
      if (round % 3 == 2) {
        ASSERT_TRUE(store->Close().has_value());
      }
      store.reset();
      NextMachine();
    }
  }
  std::uint64_t states() const { return states_; }

 private:
  // Crash images on the way, after every stride-th request.
  void Watch() {
    device_->SetStepHook([this](SimDevice& device, const BlockRequest& request) {
      if (request.operation == BlockOperation::kRead || ++requests_ % stride_ != 0) return;
      const auto pending = device.UnstableCount();
      if (pending <= 3) {
        for (std::uint32_t subset = 0; subset < (1U << pending); ++subset) {
          std::vector<bool> keep;
          for (std::size_t at = 0; at < pending; ++at) keep.push_back((subset >> at & 1) != 0);
          Check(device.CrashImageKeeping(keep));
        }
      }
      for (int at = 0; at < 2; ++at) Check(device.CrashImage(random_()));
    });
  }

  void Check(const SimImage& image) {
    if (::testing::Test::HasFailure()) return;
    ++states_;
    if (states_ % 4 == 0) return VerifyWithSecondCrash(image, history_, random_());
    auto device = DeviceOn(image);
    Verify(*device, history_);
  }

  void Step(Store& store, std::size_t value_bytes_max) {
    auto transaction = RandomTransaction(random_, key_count_, value_bytes_max);
    auto state = history_.states.back();
    ApplyTo(state, transaction);
    // The log may be written from within Commit, but not with this transaction before it has an
    // LSN.
    history_.states.push_back(std::move(state));
    const auto lsn = store.Commit(std::move(transaction));
    ASSERT_TRUE(lsn.has_value()) << lsn.error().message();
    ASSERT_EQ(lsn.value() + 1, history_.states.size());
    const auto dice = random_() % 10;
    if (dice < 5) {
      ASSERT_TRUE(store.Sync(lsn.value()).has_value());
      history_.acknowledged = lsn.value();
    } else if (dice == 5) {
      ASSERT_TRUE(store.Checkpoint().has_value());
    }
  }

  // The power goes; another machine takes over what the disk kept.
  void NextMachine() {
    device_ = DeviceOn(device_->CrashImage(random_()), {.seed = random_()});
    auto probe = DeviceOn(device_->CurrentImage());
    const auto lsn = Verify(*probe, history_);
    ASSERT_TRUE(lsn.has_value());
    history_.states.resize(*lsn + 1);
    history_.acknowledged = *lsn;  // recovery made it durable, or the next one finds the same
  }

  std::mt19937_64 random_;
  std::unique_ptr<SimDevice> device_;
  const StoreOpenOptions options_;
  const std::uint64_t key_count_;
  History history_;
  std::uint64_t stride_ = 1;
  std::uint64_t requests_ = 0;
  std::uint64_t states_ = 0;
};

TEST(StoreCrash, SmallTransactionsAtEveryRequest) {
  const auto seed = TestSeed();
  SCOPED_TRACE(seed);
  CrashWorkload workload(seed);
  workload.Run(IsLongRun() ? 200 : 6, 25, 200, 1);
  RecordProperty("crash_states", static_cast<int>(workload.states()));
  EXPECT_GT(workload.states(), 500U);
}

TEST(StoreCrash, LargeTransactionsAcrossTheRingsEnd) {
  const auto seed = TestSeed() + 1;
  SCOPED_TRACE(seed);
  CrashWorkload workload(seed);
  workload.Run(IsLongRun() ? 50 : 2, 120, 120'000, IsLongRun() ? 3 : 11);
  RecordProperty("crash_states", static_cast<int>(workload.states()));
  EXPECT_GT(workload.states(), 50U);
}

// A tree of several levels and a cache that holds a small part: checkpoints come by themselves.
TEST(StoreCrash, ATreeLargerThanItsCache) {
  const auto seed = TestSeed() + 2;
  SCOPED_TRACE(seed);
  CrashWorkload workload(seed, SmallCache(), 1500);
  workload.Run(IsLongRun() ? 50 : 3, 300, 1500, IsLongRun() ? 3 : 61);
  RecordProperty("crash_states", static_cast<int>(workload.states()));
  EXPECT_GT(workload.states(), 50U);
}

// The process dies when the uberblock of a checkpoint is in the disk's cache and not durable. The
// next one reads it, and overwrites what only the checkpoint before needs: the power cut after that
// must not lead back there.
TEST(StoreCrash, APowerCutAfterAKillNeedsNothingThatWasOverwritten) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  const auto layout = PlanVolume(64 << 20).value();
  const auto rings_end = (layout.uberblock_first_block + 128) * 4096;
  History history;
  const auto put = [&](Store& store, const std::string& key, const std::string& value) {
    auto state = history.states.back();
    state[key] = value;
    history.states.push_back(std::move(state));
    return PutOne(store, key, value);
  };
  {
    auto store = MustOpen(*device);
    history.mount_epoch = store->MountEpoch();
    for (int at = 0; at < 300; ++at) put(*store, std::to_string(at), std::string(900, 'a'));
    ASSERT_TRUE(store->Checkpoint().has_value());
    for (int at = 0; at < 300; ++at) put(*store, std::to_string(at), std::string(900, 'b'));
    int uberblocks = 0;
    device->SetFaultHook([&](const BlockRequest& request, std::uint64_t) {
      if (request.operation == BlockOperation::kWrite && request.offset_bytes < rings_end) {
        ++uberblocks;
      }
      const bool is_hit = uberblocks == 2 && request.operation == BlockOperation::kFlush;
      return SimVerdict{is_hit ? SimFault::kFail : SimFault::kNone, Errc::kIo};
    });
    EXPECT_FALSE(store->Checkpoint().has_value());
    EXPECT_EQ(uberblocks, 2);
  }
  device->SetFaultHook({});
  EXPECT_EQ(device->UnstableCount(), 2U);
  history.acknowledged = 600;
  std::uint64_t seed = 0;
  device->SetStepHook([&](SimDevice& now, const BlockRequest& request) {
    if (request.operation == BlockOperation::kRead || ::testing::Test::HasFailure()) return;
    for (int at = 0; at < 3; ++at) {
      auto after = DeviceOn(now.CrashImage(++seed));
      Verify(*after, history);
    }
  });
  auto store = MustOpen(*device);
  history.mount_epoch = 0;  // a crash may take this mount back
  for (int round = 0; round < 3; ++round) {
    for (int at = 0; at < 300; ++at) put(*store, std::to_string(at), std::string(900, 'c'));
    ASSERT_TRUE(store->Checkpoint().has_value());
  }
  EXPECT_GT(seed, 30U);
}

TEST(StoreCrash, FormatLeavesTheOldVolumeNoneOrTheNewOne) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  ASSERT_TRUE(store->Sync(PutOne(*store, "old", "1")).has_value());
  store.reset();
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  std::uint64_t seed = 0;
  int counts[3] = {};
  device->SetStepHook([&](SimDevice& now, const BlockRequest&) {
    for (int at = 0; at < 8; ++at) {
      auto after = DeviceOn(now.CrashImage(++seed));
      const auto opened = Store::Open(*after, SystemClock(), false);
      if (!opened.has_value()) {
        ++counts[1];
        EXPECT_TRUE(opened.error() == Errc::kNotOurs || opened.error() == Errc::kCorrupt);
      } else if (opened.value()->Get("old").has_value()) {
        ++counts[0];
      } else {
        ++counts[2];
        EXPECT_EQ(opened.value()->LastLsn(), 0U);
      }
    }
  });
  auto options =
      Named();  // the same seed: nothing of the old volume may be taken for the new one's
  options.overwrite = true;
  ASSERT_TRUE(Store::Format(*device, options).has_value());
  EXPECT_GT(counts[1], 0);
  EXPECT_GT(counts[2], 0);
}

// A fixed life of a store on a device whose k-th request fails. Nothing acknowledged may be missing
// afterwards.
// With `is_killed` it ends without a checkpoint that could make up for what the log lost.
void RunWithFault(SimDevice& device, History& history, bool is_killed = false) {
  auto opened = Store::Open(device, SystemClock(), false);
  if (!opened.has_value()) return;
  auto& store = *opened.value();
  history.mount_epoch = store.MountEpoch();
  std::mt19937_64 random(3);
  bool is_failed = false;
  for (int step = 0; step < 30; ++step) {
    auto transaction = RandomTransaction(random, 20, 3000);
    auto state = history.states.back();
    ApplyTo(state, transaction);
    const auto lsn = store.Commit(std::move(transaction));
    if (!lsn.has_value()) {
      EXPECT_TRUE(lsn.error() == Errc::kIo);
      is_failed = true;
      continue;
    }
    EXPECT_FALSE(is_failed) << "a commit after the failure";
    history.states.push_back(std::move(state));
    if (step % 2 == 0) {
      const auto synced = store.Sync(lsn.value());
      if (synced.has_value()) history.acknowledged = lsn.value();
      if (!synced.has_value()) {
        EXPECT_TRUE(synced.error() == Errc::kIo);
        is_failed = true;
      }
    }
    if (!is_killed && step % 10 == 9 && !store.Checkpoint().has_value()) is_failed = true;
  }
  if (is_killed) return;
  const auto closed = store.Close();
  if (is_failed) {
    EXPECT_TRUE(closed.error() == Errc::kIo);
  } else if (closed.has_value()) {
    history.acknowledged = history.states.size() - 1;
  }
}

TEST(StoreFault, EveryRequestFailsOnce) {
  auto formatted = NewDevice();
  ASSERT_TRUE(Store::Format(*formatted, Named()).has_value());
  ASSERT_TRUE(FlushBlocking(*formatted).has_value());
  const auto image = formatted->StableImage();
  std::uint64_t faults = 0;
  for (const int way : {0, 1, 2}) {  // fails once, fails for ever, fails once and is killed later
    for (std::uint64_t ordinal = 1;; ++ordinal) {
      SCOPED_TRACE(ordinal);
      auto device = DeviceOn(image, {.seed = ordinal});
      const auto before = device->RequestCount();
      device->FailRequest(ordinal, Errc::kIo, way == 1);
      History history;
      RunWithFault(*device, history, way == 2);
      if (device->RequestCount() - before < ordinal) break;
      ++faults;
      auto same = DeviceOn(device->CurrentImage());  // the process died, the disk did not
      Verify(*same, history);
      auto after = DeviceOn(device->CrashImage(ordinal));
      Verify(*after, history);
      if (::testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(faults, 100U);
}

TEST(StoreFault, ATornWriteThatFailsIsNeverAcknowledged) {
  auto formatted = NewDevice();
  ASSERT_TRUE(Store::Format(*formatted, Named()).has_value());
  ASSERT_TRUE(FlushBlocking(*formatted).has_value());
  const auto image = formatted->StableImage();
  for (std::uint64_t ordinal = 1; ordinal < 120; ++ordinal) {
    SCOPED_TRACE(ordinal);
    auto device = DeviceOn(image, {.seed = ordinal});
    device->SetFaultHook([&](const BlockRequest& request, std::uint64_t now) {
      const bool is_hit = now == ordinal && request.operation == BlockOperation::kWrite;
      return SimVerdict{is_hit ? SimFault::kFailTorn : SimFault::kNone, Errc::kIo};
    });
    History history;
    RunWithFault(*device, history, true);
    auto same = DeviceOn(device->CurrentImage());
    Verify(*same, history);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace filer::engine
