#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace filer {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// The polynomial's definition, a bit at a time.
std::uint32_t ByDefinition(std::span<const std::byte> bytes, std::uint32_t seed) {
  std::uint32_t crc = ~seed;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
  }
  return ~crc;
}

TEST(Crc32c, MatchesThePublishedCheckValue) { EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283U); }

TEST(Crc32c, ContinuesFromASeed) {
  EXPECT_EQ(Crc32c(Bytes("6789"), Crc32c(Bytes("12345"))), 0xE3069283U);
}

// Around the lengths at which another way of counting begins, at odd addresses, with seeds.
TEST(Crc32c, IsTheSameAtEveryLength) {
  std::vector<std::byte> bytes(16384 + 64);
  std::uint32_t state = 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  const std::span<const std::byte> all(bytes);
  std::vector<std::size_t> lengths = {4080, 4088, 4095, 4096, 4097, 8160, 8192, 12240, 16384};
  for (std::size_t length = 0; length < 4100; length += 37) lengths.push_back(length);
  for (std::size_t length = 8150; length < 8200; ++length) lengths.push_back(length);
  for (const std::size_t length : lengths) {
    for (const std::size_t offset : {0, 1, 7, 16}) {
      for (const std::uint32_t seed : {0U, 1U, 0xdeadbeefU}) {
        const auto part = all.subspan(offset, length);
        ASSERT_EQ(Crc32c(part, seed), ByDefinition(part, seed)) << length << " from " << offset;
      }
    }
  }
}

}  // namespace
}  // namespace filer
