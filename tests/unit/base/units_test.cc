#include "base/units.h"

#include <gtest/gtest.h>

namespace filer {
namespace {

TEST(Units, ConvertExactly) {
  EXPECT_EQ(ToByteOffset(BlockIndex{3}), 12288U);
  EXPECT_EQ(ToBlocksExact(8192).value, 2U);
  EXPECT_EQ(RoundUp(4097, 4096), 8192U);
}

TEST(UnitsDeathTest, AbortOnInexactConversion) { EXPECT_DEATH(ToBlocksExact(4097), "assertion"); }

}  // namespace
}  // namespace filer
