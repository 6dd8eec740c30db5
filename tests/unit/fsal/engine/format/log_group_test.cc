#include "fsal/engine/format/log_group.h"

#include <gtest/gtest.h>

#include <vector>

#include "fsal/engine/format/label.h"

namespace filer::engine {
namespace {

const GroupPlace kPlace{{1, 2, 3}, 77, 40, 10, 0xABCD};

bool IsAccepted(std::span<const std::byte> group, const GroupPlace& place = kPlace) {
  const auto header = DecodeGroupHeader(group, place.uuid, place.log_epoch);
  return header.has_value() && IsNextGroup(header.value(), place) &&
         IsPayloadSound(header.value(), group);
}

TEST(LogGroup, IsAcceptedInItsPlaceOnly) {
  std::vector<std::byte> group(8192, std::byte{0x33});
  const auto header = SealGroup(group, kPlace, 12, 9, 4000);
  EXPECT_EQ(GroupBytes(header.payload_bytes), 8192U);
  EXPECT_TRUE(IsAccepted(group));
  auto place = kPlace;
  place.uuid[5] = 1;
  EXPECT_FALSE(IsAccepted(group, place));
  place = kPlace;
  place.log_epoch = 78;
  EXPECT_FALSE(IsAccepted(group, place));
  place = kPlace;
  place.position = 41;
  EXPECT_FALSE(IsAccepted(group, place));
  place = kPlace;
  place.first_lsn = 11;
  EXPECT_FALSE(IsAccepted(group, place));
  place = kPlace;
  place.prev_crc32c = 1;
  EXPECT_FALSE(IsAccepted(group, place));
  EXPECT_FALSE(IsAccepted(std::span(group).first(4096)));
}

TEST(LogGroup, RefusesEveryFlippedBit) {
  std::vector<std::byte> group(4096, std::byte{0x33});
  SealGroup(group, kPlace, 12, 9, 1000);
  for (std::size_t bit = 0; bit < group.size() * 8; ++bit) {
    group[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_FALSE(IsAccepted(group)) << bit;
    group[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST(LogGroup, RefusesWhatCannotBeWithMendedChecksums) {
  std::vector<std::byte> group(4096);
  const auto sound = SealGroup(group, kPlace, 12, 9, 1000);
  const auto is_refused = [&](auto change) {
    auto header = sound;
    change(header);
    Seal(header);
    StoreStruct(std::span(group), header);
    return !IsAccepted(group);
  };
  EXPECT_FALSE(is_refused([](GroupHeader&) {}));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.payload_bytes = UINT32_MAX; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.payload_bytes = 4096; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.last_lsn = 9; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.last_lsn = UINT64_MAX; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.durable_lsn = 10; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.version = kFormatVersion + 1; }));
  EXPECT_TRUE(is_refused([](GroupHeader& h) { h.reserved[0] = 1; }));
}

}  // namespace
}  // namespace filer::engine
