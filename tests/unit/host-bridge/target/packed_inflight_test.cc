#include "host-bridge/target/packed_inflight.h"

#include <gtest/gtest.h>

#include <array>

#include "host-bridge/target/inflight.h"

namespace filer::bridge {
namespace {

using virtio::PackedAvailableFlags;
using virtio::PackedDescriptor;
using virtio::PackedUsedFlags;

constexpr std::uint32_t kSize = 8;
constexpr std::uint16_t kLap = virtio::kPackedPlaceWrap;

class PackedInflightTest : public testing::Test {
 protected:
  PackedInflightTest() : area_(InflightTable::BytesPerQueue(kSize)), table_(area_.data(), kSize) {
    layout_.size = kSize;
    layout_.packed = ring_.data();
  }
  // As a target finds it that was started after the last one was killed.
  std::uint16_t Recover(std::uint16_t fallback = kLap) {
    return PackedInflightTable(area_.data(), kSize).Recover(layout_, fallback);
  }

  std::vector<std::byte> area_;
  std::array<PackedDescriptor, kSize> ring_{};
  PackedInflightTable table_;
  RingLayout layout_;
};

TEST_F(PackedInflightTest, ANewTableTakesTheFrontEndsWord) {
  EXPECT_EQ(table_.Recover(layout_, kLap | 3), kLap | 3);
  EXPECT_EQ(Recover(0), kLap | 3);  // and remembers it
}

TEST_F(PackedInflightTest, GoesOnWhereTheRingWasReturnedTo) {
  table_.Recover(layout_, kLap);
  for (std::uint16_t place = 0; place < 4; ++place) {
    ring_[place].flags = PackedAvailableFlags(true);
    table_.Take(place, 1);
  }
  EXPECT_EQ(Recover(), kLap);
  ring_[0].flags = PackedUsedFlags(true);  // returned, and killed before the table said so
  ring_[1].flags = PackedUsedFlags(true);
  EXPECT_EQ(Recover(), kLap | 2);
  table_.Finish(kLap | 2);
  EXPECT_EQ(Recover(), kLap | 2);
}

TEST_F(PackedInflightTest, PassesWhatTheDriverHasFilledAgain) {
  table_.Recover(layout_, kLap | 6);
  for (std::uint16_t place = 0; place < 6; ++place) ring_[place].flags = PackedUsedFlags(true);
  for (const std::uint16_t place : {6, 7}) {
    table_.Take(place, 1);
    ring_[place].flags = PackedUsedFlags(true);
  }
  // The next lap, all of it; the places of those two as well.
  for (std::uint16_t place = 0; place < kSize; ++place) {
    ring_[place].flags = PackedAvailableFlags(false);
  }
  EXPECT_EQ(Recover(), 0);  // place 0 of the second lap
}

TEST_F(PackedInflightTest, PassesWholeChains) {
  table_.Recover(layout_, kLap | 6);
  table_.Take(6, 3);  // round the end
  ring_[6].flags = PackedUsedFlags(true);
  ring_[7].flags = PackedAvailableFlags(true);  // of the chain, never overwritten
  ring_[0].flags = PackedAvailableFlags(false);
  ring_[1].flags = PackedAvailableFlags(false);
  EXPECT_EQ(Recover(), 1);
}

TEST_F(PackedInflightTest, BelievesNoTableOfAnotherKindOrSize) {
  InflightTable split(area_.data(), kSize);
  split.Recover(kSize, 5);
  EXPECT_EQ(Recover(kLap | 2), kLap | 2);
  EXPECT_EQ(PackedInflightTable(area_.data(), kSize / 2).Recover(layout_, kLap | 1), kLap | 1);
}

TEST_F(PackedInflightTest, EndsWhateverTheTableSays) {
  for (int value = 0; value < 256; ++value) {
    table_.Recover(layout_, kLap);
    for (auto& slot : ring_) slot.flags = PackedUsedFlags(value % 2 == 0);
    std::fill(area_.begin() + 16, area_.end(), static_cast<std::byte>(value));
    const std::uint16_t position = Recover();
    EXPECT_LT(position & virtio::kPackedPlaceMask, kSize);
  }
  table_.Finish(kLap | kSize);  // beyond the ring
  EXPECT_EQ(Recover(kLap | 4), kLap | 4);
}

TEST_F(PackedInflightTest, ForgetsWhenTheFrontEndKnows) {
  table_.Recover(layout_, kLap | 5);
  table_.Forget();
  EXPECT_EQ(Recover(kLap), kLap);
}

}  // namespace
}  // namespace filer::bridge
