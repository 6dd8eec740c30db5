#include "fsal/engine/format/label.h"

#include <gtest/gtest.h>

namespace filer::engine {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

Label Sealed(const VolumeLayout& layout, std::uint64_t own_block) {
  VolumeUuid uuid{1, 2, 3};
  const std::uint8_t key[16] = {9};
  auto label = MakeLabel(layout, "tank", uuid, key);
  label.own_block = own_block;
  Seal(label);
  return label;
}

std::span<const std::byte> BytesOf(const Label& label) {
  return std::as_bytes(std::span(&label, 1));
}

TEST(PlanVolume, SizesThePartsByTheVolume) {
  EXPECT_TRUE(PlanVolume(64 * kMiB - 1).error() == Errc::kTooSmall);
  const auto small = PlanVolume(64 * kMiB).value();
  EXPECT_EQ(small.log_block_count, 8 * kMiB / 4096);
  EXPECT_EQ(small.node_block_count, 32 * kMiB / 4096);
  EXPECT_GT(small.data_block_count, 16 * kMiB / 4096);
  const auto large = PlanVolume(1 << 20 | 64ULL * 1024 * 1024 * kMiB).value();
  EXPECT_EQ(large.log_block_count, 1024 * kMiB / 4096);
  EXPECT_EQ(large.node_block_count, 4ULL * 1024 * 1024 * kMiB / 4096);
  EXPECT_EQ(large.data_first_block + large.data_block_count, large.block_count - 1);
}

TEST(IsVolumeName, AllowsOnlyPlainNames) {
  EXPECT_TRUE(IsVolumeName("Tank_1.a-b"));
  EXPECT_TRUE(IsVolumeName(std::string(63, 'x')));
  for (const auto& name : {std::string(), std::string(64, 'x'), std::string("a b"),
                           std::string("a/b"), std::string("a\0b", 3), std::string("\xC3\xA4")}) {
    EXPECT_FALSE(IsVolumeName(name)) << name;
  }
}

TEST(DecodeLabel, ReadsBackWhatWasMade) {
  const auto layout = PlanVolume(100 * kMiB).value();
  const auto label = Sealed(layout, 0);
  const auto decoded = DecodeLabel(BytesOf(label), 0, layout.block_count);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_EQ(VolumeNameOf(decoded.value()), "tank");
  EXPECT_EQ(LayoutOf(decoded.value()).data_first_block, layout.data_first_block);
  EXPECT_TRUE(DecodeLabel(BytesOf(label), 0, layout.block_count + 1).has_value());
}

TEST(DecodeLabel, RefusesEveryFlippedBit) {
  const auto layout = PlanVolume(100 * kMiB).value();
  auto label = Sealed(layout, 0);
  const auto bytes = std::as_writable_bytes(std::span(&label, 1));
  for (std::size_t bit = 0; bit < sizeof(Label) * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const auto decoded = DecodeLabel(BytesOf(label), 0, layout.block_count);
    ASSERT_FALSE(decoded.has_value()) << bit;
    ASSERT_TRUE(decoded.error() == (bit < 64 ? Errc::kNotOurs : Errc::kCorrupt)) << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

// Version 1 was never released; its volumes are told from damaged ones.
TEST(DecodeLabel, SaysThatAVersionIsTooOld) {
  const auto layout = PlanVolume(100 * kMiB).value();
  auto label = Sealed(layout, 0);
  label.version = 1;
  Seal(label);
  const auto decoded = DecodeLabel(BytesOf(label), 0, layout.block_count);
  EXPECT_TRUE(decoded.error() == Errc::kNotSupported) << decoded.error().message();
}

TEST(DecodeLabel, RefusesAnotherPlaceAndACutDevice) {
  const auto layout = PlanVolume(100 * kMiB).value();
  const auto label = Sealed(layout, 0);
  EXPECT_TRUE(DecodeLabel(BytesOf(label), 7, layout.block_count).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeLabel(BytesOf(label), 0, layout.block_count - 1).error() == Errc::kTooSmall);
}

}  // namespace
}  // namespace filer::engine
