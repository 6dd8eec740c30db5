// store_fixture.h: what the store's tests share: simulated volumes, random transactions, and a
// model to compare with.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

using Model = std::map<std::string, std::string>;

inline bool IsLongRun() { return std::getenv("FILER_LONG") != nullptr; }

// FILER_SEED, or a fixed one: a failing run prints it (SCOPED_TRACE) and can be repeated.
inline std::uint64_t TestSeed() {
  const char* text = std::getenv("FILER_SEED");
  return text == nullptr ? 20261122 : std::strtoull(text, nullptr, 10);
}

inline std::unique_ptr<SimDevice> NewDevice(SimOptions options = {}) {
  return SimDevice::Create(options).value();
}

inline std::unique_ptr<SimDevice> DeviceOn(SimImage image, SimOptions options = {}) {
  return SimDevice::Create(options, std::move(image)).value();
}

inline StoreFormatOptions Named(std::uint64_t seed = 7) {
  StoreFormatOptions options;
  options.volume_name = "tank";
  options.random_seed = seed;
  return options;
}

inline std::unique_ptr<Store> MustOpen(BlockDevice& device, bool read_only = false) {
  auto opened = Store::Open(device, SystemClock(), read_only);
  EXPECT_TRUE(opened.has_value()) << opened.error().message();
  return opened.has_value() ? std::move(opened).value() : nullptr;
}

inline std::unique_ptr<Store> MustOpen(BlockDevice& device, const StoreOpenOptions& options) {
  auto opened = Store::Open(device, SystemClock(), options);
  EXPECT_TRUE(opened.has_value()) << opened.error().message();
  return opened.has_value() ? std::move(opened).value() : nullptr;
}

// The smallest cache there is: everything that is not dirty is read again and again.
inline StoreOpenOptions SmallCache() {
  StoreOpenOptions options;
  options.cache_bytes = 0;
  return options;
}

inline Lsn PutOne(Store& store, std::string key, std::string value) {
  Transaction transaction;
  transaction.Put(std::move(key), std::move(value));
  auto committed = store.Commit(std::move(transaction));
  EXPECT_TRUE(committed.has_value()) << committed.error().message();
  return committed.has_value() ? committed.value() : 0;
}

inline Model Dump(const Store& store) {
  Model all;
  const auto scanned = store.Scan("", "", [&](std::string_view key, std::string_view value) {
    all.emplace(key, value);
    return true;
  });
  EXPECT_TRUE(scanned.has_value()) << scanned.error().message();
  return all;
}

inline void ApplyTo(Model& model, const Transaction& transaction) {
  for (const auto& change : transaction.changes()) {
    if (change.value) {
      model[change.key] = *change.value;
    } else {
      model.erase(change.key);
    }
  }
}

inline std::string RandomBytes(std::mt19937_64& random, std::size_t length) {
  std::string bytes(length, '\0');
  for (auto& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Some puts and erases of keys out of `key_count`; values up to `value_bytes_max`.
inline Transaction RandomTransaction(std::mt19937_64& random, std::uint64_t key_count,
                                     std::size_t value_bytes_max) {
  Transaction transaction;
  const auto changes = 1 + random() % 4;
  for (std::uint64_t at = 0; at < changes; ++at) {
    std::string key = "k" + std::to_string(random() % key_count);
    if (random() % 8 == 0) key.append(300, 'x');
    if (random() % 3 == 0) {
      transaction.Erase(std::move(key));
    } else {
      transaction.Put(std::move(key), RandomBytes(random, random() % (value_bytes_max + 1)));
    }
  }
  return transaction;
}

}  // namespace filer::engine
