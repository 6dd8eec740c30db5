#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace filer {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) return Errc::kInvalidArgument;
  return value / 2;
}
Result<int> Quarter(int value) { return FILER_TRY(Half(FILER_TRY(Half(value)))); }
Result<void> CheckEven(int value) {
  FILER_TRY(Half(value));
  return Ok();
}

TEST(Result, TryPassesValuesOn) { EXPECT_EQ(Quarter(8).value(), 2); }

TEST(Result, TryReturnsTheFirstError) {
  ASSERT_FALSE(Quarter(6).has_value());
  EXPECT_EQ(Quarter(6).error(), Errc::kInvalidArgument);
  EXPECT_FALSE(CheckEven(3).has_value());
  EXPECT_TRUE(CheckEven(4).has_value());
}

TEST(Error, SystemMessageNamesCallAndCause) {
  EXPECT_EQ(Error::System(ENOENT, "open /x").message(), "open /x: No such file or directory");
}

TEST(Errc, EveryCodeHasAText) {
  for (int code = 1; code <= static_cast<int>(Errc::kSystem); ++code) {
    EXPECT_NE(ErrcText(static_cast<Errc>(code)), "unknown error") << code;
  }
}

}  // namespace
}  // namespace filer
