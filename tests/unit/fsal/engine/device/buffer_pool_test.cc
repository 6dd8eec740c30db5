#include "fsal/engine/device/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "fsal/engine/device/arena.h"

namespace filer::engine {
namespace {

Arena MapOrDie(std::uint64_t bytes) {
  auto arena = Arena::Map(bytes);
  EXPECT_TRUE(arena.has_value());
  return std::move(arena).assume_value();
}

TEST(BufferPool, GivesSizeClassesAlignedAndRefusesOtherSizes) {
  Arena arena = MapOrDie(2 << 20);
  BufferPool pool(arena.bytes());
  EXPECT_TRUE(pool.Allocate(0).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(pool.Allocate(kBufferBytesMax + 1).error() == Errc::kInvalidArgument);
  for (std::uint32_t bytes : {1U, 4096U, 4097U, 65536U, 1U << 20}) {
    auto buffer = pool.Allocate(bytes);
    ASSERT_TRUE(buffer.has_value());
    EXPECT_GE(buffer.value().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.value().data()) % 4096, 0U);
  }
  EXPECT_EQ(pool.free_bytes(), pool.size_bytes());
}

TEST(BufferPool, SaysNoMemoryWhenEmptyAndMergesWhatComesBack) {
  Arena arena = MapOrDie(1 << 20);
  BufferPool pool(arena.bytes());
  std::vector<BufferRef> all;
  for (int i = 0; i < 256; ++i) {
    auto buffer = pool.Allocate(4096);
    ASSERT_TRUE(buffer.has_value());
    all.push_back(std::move(buffer).assume_value());
  }
  EXPECT_TRUE(pool.Allocate(1).error() == Errc::kNoMemory);
  all.erase(all.begin());
  EXPECT_TRUE(pool.Allocate(8192).error() == Errc::kNoMemory);
  all.clear();
  EXPECT_TRUE(pool.Allocate(1 << 20).has_value());
}

TEST(BufferPool, KeepsABufferUntilItsLastReferenceGoes) {
  Arena arena = MapOrDie(1 << 20);
  BufferPool pool(arena.bytes());
  BufferRef first = std::move(pool.Allocate(1 << 20)).assume_value();
  BufferRef second = first;
  first = BufferRef();
  EXPECT_TRUE(pool.Allocate(1).error() == Errc::kNoMemory);
  second = BufferRef();
  EXPECT_TRUE(pool.Allocate(1).has_value());
}

// Random allocation against a map of address ranges: no two live buffers overlap, sums agree.
TEST(BufferPool, AgreesWithModel) {
  Arena arena = MapOrDie(8 << 20);
  BufferPool pool(arena.bytes());
  std::mt19937_64 random(7);
  std::map<std::byte*, BufferRef> live;
  std::uint64_t live_bytes = 0;
  for (int step = 0; step < 50'000; ++step) {
    if (live.empty() || random() % 100 < 52) {
      const std::uint32_t bytes = 1U + random() % (1U << (random() % 21));
      auto buffer = pool.Allocate(bytes);
      if (!buffer.has_value()) continue;
      BufferRef taken = std::move(buffer).assume_value();
      auto next = live.lower_bound(taken.data());
      if (next != live.end()) {
        ASSERT_LE(taken.data() + taken.size(), next->first);
      }
      if (next != live.begin()) {
        auto previous = std::prev(next);
        ASSERT_LE(previous->first + previous->second.size(), taken.data());
      }
      live_bytes += taken.size();
      live.emplace(taken.data(), std::move(taken));
    } else {
      auto victim = std::next(live.begin(), static_cast<long>(random() % live.size()));
      live_bytes -= victim->second.size();
      live.erase(victim);
    }
    ASSERT_EQ(pool.free_bytes(), pool.size_bytes() - live_bytes);
  }
  live.clear();
  std::vector<BufferRef> whole;
  for (int i = 0; i < 8; ++i) whole.push_back(std::move(pool.Allocate(1 << 20)).assume_value());
}

TEST(BufferPool, StaysWholeUnderThreads) {
  Arena arena = MapOrDie(4 << 20);
  BufferPool pool(arena.bytes());
  std::vector<std::thread> threads;
  for (int id = 1; id <= 4; ++id) {
    threads.emplace_back([&pool, id] {
      std::mt19937_64 random(static_cast<unsigned>(id));
      std::vector<BufferRef> mine;
      for (int step = 0; step < 5'000; ++step) {
        auto buffer = pool.Allocate(1U + random() % 20'000);
        if (buffer.has_value()) {
          std::memset(buffer.value().data(), id, buffer.value().size());
          mine.push_back(std::move(buffer).assume_value());
        }
        if (mine.size() > 16 || !buffer.has_value()) {
          for (const BufferRef& one : mine) {
            ASSERT_EQ(one.data()[0], static_cast<std::byte>(id));
            ASSERT_EQ(one.data()[one.size() - 1], static_cast<std::byte>(id));
          }
          mine.clear();
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(pool.free_bytes(), pool.size_bytes());
}

}  // namespace
}  // namespace filer::engine
