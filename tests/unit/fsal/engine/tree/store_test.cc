#include "fsal/engine/tree/store.h"

#include <gtest/gtest.h>

#include "fsal/engine/device/sim_device.h"

namespace filer::engine {
namespace {

std::unique_ptr<SimDevice> NewDevice(SimOptions options = {}) {
  return SimDevice::Create(options).value();
}

StoreFormatOptions Named(std::uint64_t seed = 7) {
  StoreFormatOptions options;
  options.volume_name = "tank";
  options.random_seed = seed;
  return options;
}

Lsn PutOne(Store& store, std::string key, std::string value) {
  Transaction transaction;
  transaction.Put(std::move(key), std::move(value));
  return store.Commit(std::move(transaction)).value();
}

TEST(Store, KeepsWhatWasSyncedAcrossAKill) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  {
    auto opened = Store::Open(*device, SystemClock(), false);
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    auto store = std::move(opened).value();
    EXPECT_EQ(store->MountEpoch(), 1U);
    EXPECT_TRUE(store->Sync(PutOne(*store, "a", "1")).has_value());
    EXPECT_TRUE(store->Sync(PutOne(*store, "b", "2")).has_value());
  }
  auto store = Store::Open(*device, SystemClock(), false).value();
  EXPECT_EQ(store->MountEpoch(), 2U);
  EXPECT_EQ(store->Get("a").value(), "1");
  EXPECT_EQ(store->Get("b").value(), "2");
  EXPECT_EQ(store->LastLsn(), 2U);
  EXPECT_EQ(store->Counters().recovered_groups, 2U);
  EXPECT_TRUE(store->Close().has_value());
  store.reset();
  store = Store::Open(*device, SystemClock(), false).value();
  EXPECT_EQ(store->Get("b").value(), "2");
  EXPECT_EQ(store->Counters().recovered_groups, 0U);
}

}  // namespace
}  // namespace filer::engine
