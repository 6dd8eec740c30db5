#include "base/latency.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/sharded_counter.h"

namespace filer {
namespace {

TEST(LatencyCounts, SummarizesWithinABucket) {
  LatencyCounts counts;
  EXPECT_EQ(counts.Summary().count, 0u);
  EXPECT_EQ(counts.Summary().p99_ns, 0u);
  const double ticks_per_us = TicksPerNs() * 1000;
  const auto add = [&](double us) { counts.Add(static_cast<std::uint64_t>(us * ticks_per_us)); };
  for (int call = 0; call < 50; ++call) add(20);
  for (int call = 0; call < 48; ++call) add(100);
  for (int call = 0; call < 2; ++call) add(5000);
  const LatencySummary summary = counts.Summary();
  EXPECT_EQ(summary.count, 100u);
  EXPECT_NEAR(static_cast<double>(summary.p50_ns), 20e3, 20e3 / 6);
  EXPECT_NEAR(static_cast<double>(summary.p99_ns), 5e6, 5e6 / 6);
  EXPECT_EQ(summary.max_ns, summary.p99_ns);
}

TEST(ShardedCounter, LosesNothing) {
  ShardedCounter counter;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 12; ++thread) {
    threads.emplace_back([&counter] {
      for (int round = 0; round < 10'000; ++round) counter.Add();
    });
  }
  for (std::thread& thread : threads) thread.join();
  counter.Add(7);
  EXPECT_EQ(counter.Sum(), 120'007u);
}

}  // namespace
}  // namespace filer
