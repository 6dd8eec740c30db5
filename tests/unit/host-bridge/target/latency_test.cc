#include "host-bridge/target/latency.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/clock.h"

namespace filer::bridge {
namespace {

TEST(LatencyHistogram, EveryBucketHoldsWhatItSays) {
  for (std::uint32_t bucket = 0; bucket < LatencyHistogram::kBucketCount; ++bucket) {
    const std::uint64_t upper = LatencyHistogram::UpperTicks(bucket);
    EXPECT_EQ(LatencyHistogram::BucketOf(upper), bucket);
    if (upper == UINT64_MAX) continue;
    EXPECT_EQ(LatencyHistogram::BucketOf(upper + 1), bucket + 1);
  }
  EXPECT_EQ(LatencyHistogram::UpperTicks(LatencyHistogram::kBucketCount - 1), UINT64_MAX);
}

TEST(LatencyHistogram, IsWithinAnEighth) {
  for (std::uint64_t ticks = 8; ticks < (1ULL << 62); ticks += ticks / 3) {
    const std::uint64_t upper = LatencyHistogram::UpperTicks(LatencyHistogram::BucketOf(ticks));
    EXPECT_GE(upper, ticks);
    EXPECT_LE(upper - ticks, ticks / 8);
  }
}

TEST(LatencyHistogram, TellsTimesInNanoseconds) {
  LatencyHistogram histogram;
  const std::int64_t begin_ns = SystemClock().MonotonicNs();
  const std::uint64_t begin = ReadTicks();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  histogram.Add(ReadTicks() - begin);
  const auto elapsed_ns = static_cast<double>(SystemClock().MonotonicNs() - begin_ns);
  histogram.Add(0);
  const auto buckets = histogram.Read();
  ASSERT_EQ(buckets.size(), 2U);
  EXPECT_EQ(buckets[0].upper_ns, 0U);
  EXPECT_EQ(buckets[1].count, 1U);
  EXPECT_GT(static_cast<double>(buckets[1].upper_ns), 0.8 * elapsed_ns);
  EXPECT_LT(static_cast<double>(buckets[1].upper_ns), 1.2 * elapsed_ns);
}

TEST(LatencySampler, MeasuresTheFirstRoundAndOneOfSixteen) {
  LatencySampler sampler;
  int measured = 0;
  EXPECT_NE(sampler.RoundStart(), 0U);
  for (int round = 0; round < 160; ++round) measured += sampler.RoundStart() != 0 ? 1 : 0;
  EXPECT_EQ(measured, 10);
  LatencySampler all(true);
  for (int round = 0; round < 5; ++round) EXPECT_NE(all.RoundStart(), 0U);
}

}  // namespace
}  // namespace filer::bridge
