#include "workloads/bench/linux_driver.h"

#include <gtest/gtest.h>

namespace filer::bench {
namespace {

TEST(ParseFunctionalRows, TakesRowsAndLeavesTheRest) {
  const auto rows = ParseFunctionalRows(
      "some word of a tool\nrow vda 1 800 799 800\nrow vdb 8 801 90 700\n", {"ours", "theirs"});
  ASSERT_TRUE(rows.has_value());
  ASSERT_EQ(rows.value().size(), 2U);
  EXPECT_EQ(rows.value()[0].target, "ours");
  EXPECT_EQ(rows.value()[0].doorbells, 799U);
  EXPECT_EQ(rows.value()[1].target, "theirs");
  EXPECT_EQ(rows.value()[1].depth, 8U);
  EXPECT_EQ(rows.value()[1].ios, 801U);
  EXPECT_EQ(rows.value()[1].interrupts, 700U);
}

TEST(ParseFunctionalRows, RefusesWhatCountsNothing) {
  for (const char* output : {"", "no rows\n", "row vda 1 0 0 0\n", "row vdb 1 8 8 8\n",
                             "row sda 1 8 8 8\n", "row vda 1 8 8\n", "row vda 1 x 8 8\n"}) {
    EXPECT_TRUE(ParseFunctionalRows(output, {"ours"}).has_error()) << output;
  }
}

}  // namespace
}  // namespace filer::bench
