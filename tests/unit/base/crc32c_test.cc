#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>

namespace filer {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Crc32c, MatchesThePublishedCheckValue) { EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283U); }

TEST(Crc32c, ContinuesFromASeed) {
  EXPECT_EQ(Crc32c(Bytes("6789"), Crc32c(Bytes("12345"))), 0xE3069283U);
}

}  // namespace
}  // namespace filer
