#include <gtest/gtest.h>

#include <algorithm>

#include "tests/sim/crash_run.h"

namespace filer::engine::sim {
namespace {

TEST(Shrink, KeepsWhatTheFailureNeeds) {
  std::vector<std::uint32_t> all(200);
  for (std::uint32_t at = 0; at < all.size(); ++at) all[at] = at;
  const auto has = [](const std::vector<std::uint32_t>& in, std::uint32_t what) {
    return std::find(in.begin(), in.end(), what) != in.end();
  };
  const auto shortest = Shrink(all, 10'000, [&](const auto& some) {
    return has(some, 3) && has(some, 77) && has(some, 150);
  });
  EXPECT_EQ(shortest, (std::vector<std::uint32_t>{3, 77, 150}));
}

TEST(Shrink, StopsAfterSoManyTries) {
  std::vector<std::uint32_t> all(64, 1);
  std::uint32_t tries = 0;
  Shrink(all, 10, [&](const auto&) { return ++tries == 0; });
  EXPECT_EQ(tries, 10U);
}

TEST(Sequence, IsNamedByItsIndexes) {
  const std::vector<std::uint32_t> indexes = {0, 3, 4, 5, 9, 12, 13};
  EXPECT_EQ(IndexesText(indexes), "0,3-5,9,12-13");
  EXPECT_EQ(ParseIndexes("0,3-5,9,12-13"), indexes);
  EXPECT_TRUE(ParseIndexes("0,x").empty());
  EXPECT_TRUE(ParseIndexes("5-3").empty());
  const Sequence sequence = DrawSequence(5, 10, 2);
  EXPECT_EQ(IndexesOf(Subset(sequence, indexes)), indexes);
}

TEST(Sequence, GivesTheSameBytesForTheSameSeed) {
  CrashRunOptions options;
  options.recovery_stride = 1'000'000;
  CrashRunCounts first;
  CrashRunCounts second;
  const Sequence sequence = DrawSequence(11, 15, 2);
  ASSERT_EQ(RunCrashes(sequence, options, first), "");
  ASSERT_EQ(RunCrashes(sequence, options, second), "");
  EXPECT_EQ(first.record_hash, second.record_hash);
  EXPECT_EQ(first.states, second.states);
  CrashRunCounts other;
  ASSERT_EQ(RunCrashes(DrawSequence(12, 15, 2), options, other), "");
  EXPECT_NE(first.record_hash, other.record_hash);
}

}  // namespace
}  // namespace filer::engine::sim
