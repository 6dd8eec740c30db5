#include "host-bridge/target/memory_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "host-bridge/target/address_space.h"
#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {
namespace {

constexpr std::uint64_t kPage = 4096;

// Two regions that touch in guest addresses, and a hole behind them.
class MemoryMapTest : public testing::Test {
 protected:
  MemoryMapTest() : first_(4 * kPage), second_(4 * kPage) {
    EXPECT_TRUE(map_.Add({0x10000, 2 * kPage, 0x500000, kPage}, first_.DupFd()).has_value());
    EXPECT_TRUE(map_.Add({0x12000, 4 * kPage, 0x900000, 0}, second_.DupFd()).has_value());
  }
  TranslateStatus Guest(std::uint64_t address, std::uint64_t length) {
    list_ = {};
    return map_.TranslateGuest(address, length, list_);
  }
  FakeMemory first_, second_;
  MemoryMap map_;
  SegmentList list_;
};

TEST_F(MemoryMapTest, FindsTheBytesAtTheirOffset) {
  *first_.At<char>(kPage + 5) = 'x';
  ASSERT_EQ(Guest(0x10005, 1), TranslateStatus::kOk);
  EXPECT_EQ(*static_cast<char*>(list_.segments[0].iov_base), 'x');
}

TEST_F(MemoryMapTest, SplitsWhereRegionsMeet) {
  *first_.At<char>(3 * kPage - 1) = 'a';
  *second_.At<char>(0) = 'b';
  ASSERT_EQ(Guest(0x11fff, 2), TranslateStatus::kOk);
  ASSERT_EQ(list_.count, 2u);
  EXPECT_EQ(*static_cast<char*>(list_.segments[0].iov_base), 'a');
  EXPECT_EQ(*static_cast<char*>(list_.segments[1].iov_base), 'b');
}

TEST_F(MemoryMapTest, AcceptsTheLastByteAndRefusesTheNext) {
  EXPECT_EQ(Guest(0x15fff, 1), TranslateStatus::kOk);
  EXPECT_EQ(Guest(0x15fff, 2), TranslateStatus::kBadAddress);
  EXPECT_EQ(Guest(0x16000, 1), TranslateStatus::kBadAddress);
  EXPECT_EQ(Guest(0xffff, 2), TranslateStatus::kBadAddress);
}

TEST_F(MemoryMapTest, RefusesEmptyAndWrappingRanges) {
  EXPECT_EQ(Guest(0x10000, 0), TranslateStatus::kBadAddress);
  EXPECT_EQ(Guest(0x10000, UINT64_MAX), TranslateStatus::kBadAddress);
  EXPECT_EQ(Guest(UINT64_MAX, 1), TranslateStatus::kBadAddress);
}

TEST_F(MemoryMapTest, RefusesOverlapInEitherAddressSpace) {
  FakeMemory other(kPage);
  EXPECT_FALSE(map_.Add({0x15000, kPage, 0xa00000, 0}, other.DupFd()).has_value());
  EXPECT_FALSE(map_.Add({0x90000, kPage, 0x903000, 0}, other.DupFd()).has_value());
  EXPECT_TRUE(map_.Add({0x90000, kPage, 0xa00000, 0}, other.DupFd()).has_value());
}

TEST_F(MemoryMapTest, RefusesARegionBeyondItsFile) {
  FakeMemory other(kPage);
  const auto added = map_.Add({0x90000, kPage, 0xa00000, 1}, other.DupFd());
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.assume_error(), Errc::kBadAddress);
  EXPECT_FALSE(map_.Add({0x90000, UINT64_MAX - 1, 0xa00000, 1}, other.DupFd()).has_value());
  EXPECT_FALSE(map_.Add({0x90000, 0, 0xa00000, 0}, other.DupFd()).has_value());
}

TEST_F(MemoryMapTest, RefusesWhatIsNoMemoryFile) {
  UniqueFd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto added = map_.Add({0x90000, kPage, 0xa00000, 0}, std::move(fd));
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.assume_error(), Errc::kNotSupported);
}

TEST_F(MemoryMapTest, ForgetsARemovedRegion) {
  EXPECT_TRUE(map_.Remove({0x12000, 4 * kPage, 0x900000, 0}).has_value());
  EXPECT_EQ(Guest(0x12000, 1), TranslateStatus::kBadAddress);
  EXPECT_FALSE(map_.Remove({0x12000, 4 * kPage, 0x900000, 0}).has_value());
}

TEST_F(MemoryMapTest, TruncationUnderUsReadsZeroesAndMarksTheRegion) {
  *second_.At<char>(kPage) = 'x';
  ASSERT_EQ(Guest(0x13000, 1), TranslateStatus::kOk);
  EXPECT_FALSE(map_.IsBroken());
  ASSERT_EQ(::ftruncate(second_.fd(), 0), 0);
  EXPECT_EQ(*static_cast<volatile char*>(list_.segments[0].iov_base), 0);  // SIGBUS, survived
  EXPECT_TRUE(map_.IsBroken());
}

TEST(Iotlb, TranslatesThroughUserAddressesAndAsksForWhatIsMissing) {
  FakeMemory memory(4 * kPage);
  AddressSpace space;
  ASSERT_TRUE(space.memory().Add({0x10000, 4 * kPage, 0x500000, 0}, memory.DupFd()).has_value());
  space.UseIotlb(true);
  SegmentList list;
  IotlbMiss miss;
  EXPECT_EQ(space.Translate(0xabc000, 8, 1, list, miss), TranslateStatus::kMiss);
  EXPECT_EQ(miss.iova, 0xabc000u);
  ASSERT_TRUE(space.iotlb().Update(0xabc000, kPage, 0x501000, 1).has_value());
  ASSERT_EQ(space.Translate(0xabc008, 8, 1, list, miss), TranslateStatus::kOk);
  *memory.At<char>(kPage + 8) = 'q';
  EXPECT_EQ(*static_cast<char*>(list.segments[0].iov_base), 'q');
  EXPECT_EQ(space.Translate(0xabc008, 8, 2, list, miss), TranslateStatus::kMiss);  // read-only
  EXPECT_EQ(space.Translate(0xabcfff, 2, 1, list, miss), TranslateStatus::kMiss);  // second page
  EXPECT_EQ(miss.iova, 0xabd000u);
  space.iotlb().Invalidate(0xabc800, 1);
  EXPECT_EQ(space.Translate(0xabc008, 8, 1, list, miss), TranslateStatus::kMiss);
}

TEST(Iotlb, EntryThatPointsOutsideMemoryIsRefusedAtUse) {
  AddressSpace space;
  space.UseIotlb(true);
  ASSERT_TRUE(space.iotlb().Update(0, kPage, UINT64_MAX - 10, 3).has_value());
  SegmentList list;
  IotlbMiss miss;
  EXPECT_EQ(space.Translate(0, 64, 1, list, miss), TranslateStatus::kBadAddress);
}

TEST(Iotlb, StaysBounded) {
  Iotlb iotlb;
  for (std::uint64_t i = 0; i < 3 * kIotlbEntriesMax; ++i) {
    ASSERT_TRUE(iotlb.Update(i * kPage, kPage, 0, 3).has_value());
    ASSERT_LE(iotlb.size(), kIotlbEntriesMax);
  }
  EXPECT_FALSE(iotlb.Update(5, 0, 0, 3).has_value());
  EXPECT_FALSE(iotlb.Update(UINT64_MAX, 2, 0, 3).has_value());
}

}  // namespace
}  // namespace filer::bridge
