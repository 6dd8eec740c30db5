#include "workloads/bench/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace filer::bench {
namespace {

TEST(Histogram, IsZeroWithoutSamples) {
  EXPECT_EQ(Histogram().Count(), 0U);
  EXPECT_EQ(Histogram().Quantile(0.5), 0);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 100; ++value) histogram.Record(value);
  EXPECT_EQ(histogram.Count(), 100U);
  EXPECT_EQ(histogram.Quantile(0), 1);
  EXPECT_EQ(histogram.Quantile(0.5), 50);
  EXPECT_EQ(histogram.Quantile(0.99), 99);
  EXPECT_EQ(histogram.Quantile(1), 100);
}

TEST(Histogram, EveryMagnitudeIsRightToOnePercent) {
  for (unsigned shift = 0; shift < 64; ++shift) {
    for (const std::uint64_t offset : {std::uint64_t{0}, (std::uint64_t{1} << shift) / 3}) {
      const std::uint64_t value = (std::uint64_t{1} << shift) + offset;
      Histogram histogram;
      histogram.Record(value);
      const auto exact = static_cast<double>(value);
      EXPECT_NEAR(histogram.Quantile(0.5), exact, exact / 128) << value;
    }
  }
  Histogram largest;
  largest.Record(UINT64_MAX);
  EXPECT_GT(largest.Quantile(1), 1.8e19);
}

TEST(Histogram, QuantilesFollowTheSortedSamples) {
  std::mt19937_64 random(17);
  std::lognormal_distribution<double> distribution(8, 2);
  Histogram histogram;
  std::vector<double> samples;
  for (int i = 0; i < 100'000; ++i) {
    const auto value = static_cast<std::uint64_t>(distribution(random));
    histogram.Record(value);
    samples.push_back(static_cast<double>(value));
  }
  std::sort(samples.begin(), samples.end());
  for (const double quantile : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const auto rank = static_cast<std::size_t>(std::ceil(quantile * 100'000)) - 1;
    EXPECT_NEAR(histogram.Quantile(quantile), samples[rank], samples[rank] / 100 + 1) << quantile;
  }
}

TEST(Histogram, MergeAddsCounts) {
  Histogram a;
  Histogram b;
  for (int i = 0; i < 10; ++i) a.Record(5);
  for (int i = 0; i < 90; ++i) b.Record(70);
  a.Merge(b);
  EXPECT_EQ(a.Count(), 100U);
  EXPECT_EQ(a.Quantile(0.1), 5);
  EXPECT_EQ(a.Quantile(0.11), 70);
}

}  // namespace
}  // namespace filer::bench
