#include "workloads/bench/statistics.h"

#include <gtest/gtest.h>

namespace filer::bench {
namespace {

TEST(SpreadOf, IsZeroWithoutValues) { EXPECT_EQ(SpreadOf({}).median, 0); }

TEST(SpreadOf, TakesTheMiddleWhateverTheOrder) {
  const Spread spread = SpreadOf({9, 1, 5});
  EXPECT_EQ(spread.median, 5);
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.max, 9);
}

TEST(SpreadOf, EvenCountsHaveTheMeanOfTheMiddle) { EXPECT_EQ(SpreadOf({4, 1, 2, 100}).median, 3); }

}  // namespace
}  // namespace filer::bench
