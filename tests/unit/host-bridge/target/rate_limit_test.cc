#include "host-bridge/target/rate_limit.h"

#include <gtest/gtest.h>

namespace filer::bridge {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1000 * kMs;

// Takes all it may, looking at the clock every `step_ns`; returns how many requests that were.
std::uint64_t RunFor(RateLimiter& limiter, std::int64_t& now_ns, std::int64_t for_ns,
                     std::int64_t step_ns, std::uint64_t bytes_each) {
  std::uint64_t count = 0;
  for (const std::int64_t end_ns = now_ns + for_ns; now_ns < end_ns; now_ns += step_ns) {
    if (!limiter.IsOpen(now_ns)) continue;
    for (; limiter.HasTokens(); ++count) {
      limiter.Take(bytes_each);
    }
  }
  return count;
}

TEST(RateLimiter, HasNoLimitUntilItIsSet) {
  RateLimiter limiter;
  EXPECT_FALSE(limiter.is_limited());
  limiter.Set({1000, 0});
  EXPECT_TRUE(limiter.is_limited());
  limiter.Set({});
  EXPECT_FALSE(limiter.is_limited());
  EXPECT_TRUE(limiter.IsOpen(0));
}

TEST(RateLimiter, LetsTheRateThroughHoweverOftenItIsAsked) {
  for (const std::int64_t step_ns : {kMs / 100, kMs, 7 * kMs, 30 * kMs}) {
    RateLimiter limiter;
    limiter.Set({1000, 0});
    std::int64_t now_ns = kSecond;
    RunFor(limiter, now_ns, kSecond, step_ns, 4096);  // the burst of the beginning is over
    const std::uint64_t count = RunFor(limiter, now_ns, 10 * kSecond, step_ns, 4096);
    EXPECT_GT(count, 9'900U) << step_ns;
    EXPECT_LT(count, 10'100U) << step_ns;
  }
}

TEST(RateLimiter, CountsBytesAndRequestsApart) {
  RateLimiter limiter;
  limiter.Set({1'000'000, 100 << 20});
  std::int64_t now_ns = kSecond;
  RunFor(limiter, now_ns, kSecond, kMs, 1 << 20);
  const std::uint64_t count = RunFor(limiter, now_ns, 10 * kSecond, kMs, 1 << 20);
  EXPECT_GT(count, 980U);
  EXPECT_LT(count, 1020U);
}

TEST(RateLimiter, ARequestLargerThanTheBucketPaysAfterwards) {
  RateLimiter limiter;
  limiter.Set({0, 1 << 20});
  std::int64_t now_ns = kSecond;
  RunFor(limiter, now_ns, kSecond, kMs, 8 << 20);
  // 8 MiB at 1 MiB/s: one in eight seconds, and it is not refused for ever.
  const std::uint64_t count = RunFor(limiter, now_ns, 80 * kSecond, kMs, 8 << 20);
  EXPECT_GE(count, 9U);
  EXPECT_LE(count, 11U);
}

TEST(RateLimiter, OnceEmptyItStaysShutForAWhile) {
  RateLimiter limiter;
  limiter.Set({1000, 0});
  std::int64_t now_ns = kSecond;
  ASSERT_TRUE(limiter.IsOpen(now_ns));
  while (limiter.HasTokens()) limiter.Take(512);
  EXPECT_FALSE(limiter.IsOpen(now_ns));
  const std::int64_t wait_ns = limiter.WaitNs();
  EXPECT_GE(wait_ns, 9 * kMs);
  EXPECT_LE(wait_ns, 12 * kMs);
  EXPECT_FALSE(limiter.IsOpen(now_ns + wait_ns - kMs));
  EXPECT_TRUE(limiter.IsOpen(now_ns + wait_ns));
}

TEST(RateLimiter, ALowRateIsARateToo) {
  RateLimiter limiter;
  limiter.Set({2, 0});
  std::int64_t now_ns = kSecond;
  RunFor(limiter, now_ns, 10 * kSecond, kMs, 512);
  EXPECT_NEAR(static_cast<double>(RunFor(limiter, now_ns, 100 * kSecond, kMs, 512)), 200, 3);
}

TEST(RateLimiter, DoesNotSaveUpWhatWasNotUsed) {
  RateLimiter limiter;
  limiter.Set({1000, 0});
  std::int64_t now_ns = kSecond;
  ASSERT_TRUE(limiter.IsOpen(now_ns));
  now_ns += 3600 * kSecond;
  EXPECT_LE(RunFor(limiter, now_ns, kMs, kMs, 512), 51U);  // 50 ms worth
}

}  // namespace
}  // namespace filer::bridge
