#include "fsal/engine/alloc/block_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace filer::engine {
namespace {

TEST(BlockAllocator, StartsFromWhatIsUsed) {
  BlockAllocator allocator(100, 1000);
  std::vector<std::uint64_t> used(16);
  used[0] = 0x3FF;        // 100 to 109
  used[15] = 1ULL << 39;  // 1099, the last
  allocator.Start(used);
  EXPECT_EQ(allocator.free(), 1000U - 11);
  EXPECT_TRUE(allocator.IsUsedForTest(109));
  EXPECT_FALSE(allocator.IsUsedForTest(110));
  EXPECT_TRUE(allocator.IsUsedForTest(1099));
  ASSERT_TRUE(allocator.Reserve(900, false).has_value());
  EXPECT_EQ(allocator.AllocateReserved(900).first, 110U);
}

TEST(BlockAllocator, HoldsBackAPartForThePrivileged) {
  BlockAllocator allocator(0, 10'000);
  const std::uint64_t ordinary = allocator.available();
  EXPECT_GE(allocator.held_back(), 100U);
  EXPECT_TRUE(allocator.Reserve(ordinary, false).has_value());
  EXPECT_TRUE(allocator.Reserve(1, false).error() == Errc::kNoSpace);
  EXPECT_TRUE(allocator.Reserve(allocator.held_back(), true).has_value());
  EXPECT_TRUE(allocator.Reserve(1, true).error() == Errc::kNoSpace);
}

TEST(BlockAllocator, FreedBlocksWaitForTheirTransaction) {
  BlockAllocator allocator(0, 1000);
  ASSERT_TRUE(allocator.Reserve(10, false).has_value());
  const BlockRun run = allocator.AllocateReserved(10);
  const std::uint64_t free = allocator.free();
  allocator.FreeAfter(7, run);
  allocator.ReleaseDurable(6);
  EXPECT_EQ(allocator.free(), free);
  EXPECT_TRUE(allocator.IsUsedForTest(run.first));
  allocator.ReleaseDurable(7);
  EXPECT_EQ(allocator.free(), free + run.count);
  EXPECT_FALSE(allocator.IsUsedForTest(run.first));
}

// A region of whole words has no tail to keep out of use; to free nothing frees nothing.
TEST(BlockAllocator, GivesOutTheLastBlockOfARegionOfWholeWords) {
  BlockAllocator allocator(64, 128);
  ASSERT_TRUE(allocator.Reserve(allocator.free(), true).has_value());
  std::uint64_t given = 0;
  while (given < 128) given += allocator.AllocateReserved(128 - given).count;
  EXPECT_EQ(given, 128U);
  EXPECT_TRUE(allocator.IsUsedForTest(191));
  allocator.FreeNow({100, 0});
  EXPECT_EQ(allocator.free(), 0U);
  EXPECT_TRUE(allocator.Reserve(1, false).error() == Errc::kNoSpace);
}

// Against a map of blocks: nothing is given out twice, every promise is kept to the last block.
TEST(BlockAllocator, RandomUseAgreesWithAMap) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::uint64_t count = 500 + random() % 3000;
    BlockAllocator allocator(64, count);
    std::map<std::uint64_t, bool> used;
    std::vector<BlockRun> runs;
    std::uint64_t lsn = 0;
    for (int step = 0; step < 5000; ++step) {
      if (random() % 5 < 3) {
        const std::uint64_t want = 1 + random() % 64;
        if (!allocator.Reserve(want, false).has_value()) {
          EXPECT_LT(allocator.available(), want);
          continue;
        }
        for (std::uint64_t left = want; left > 0;) {
          const BlockRun run = allocator.AllocateReserved(left);
          ASSERT_GT(run.count, 0U);
          ASSERT_GE(run.first, 64U);
          ASSERT_LE(run.first + run.count, 64 + count);
          for (std::uint64_t block = run.first; block < run.first + run.count; ++block) {
            ASSERT_TRUE(used.emplace(block, true).second) << "block " << block << " twice";
          }
          runs.push_back(run);
          left -= run.count;
        }
      } else if (!runs.empty()) {
        std::swap(runs[random() % runs.size()], runs.back());
        const BlockRun run = runs.back();
        runs.pop_back();
        if (random() % 2 == 0) {
          allocator.FreeNow(run);
        } else {
          allocator.FreeAfter(++lsn, run);
          allocator.ReleaseDurable(lsn);
        }
        for (std::uint64_t block = run.first; block < run.first + run.count; ++block) {
          used.erase(block);
        }
      }
      ASSERT_EQ(allocator.free(), count - used.size());
    }
    EXPECT_EQ(allocator.reserved(), 0U);
  }
}

}  // namespace
}  // namespace filer::engine
