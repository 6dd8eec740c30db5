#include "host-bridge/target/memory_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

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
    return map_.TranslateGuest(address, length, list_, window_);
  }
  FakeMemory first_, second_;
  MemoryMap map_;
  SegmentList list_;
  MemoryMap::Window window_;
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

// Every range that begins and ends at a border of a region, or a byte or two off, against a list of
// the bytes that there are.
TEST(MemoryMapBorders, TranslatesExactlyTheRangesThatAreThere) {
  const FakeMemory memory(16 * kPage);
  constexpr std::uint64_t kTop = UINT64_MAX - kPage;  // ends at the last address that has one
  const RegionSpec specs[] = {{0x10000, 2 * kPage, 0x500000, kPage},
                              {0x12000, kPage + 1, 0x502000, 4 * kPage},  // an odd size
                              {0x13001, kPage - 1, 0x600000, 8 * kPage + 1},
                              {0x20000, kPage, 0x700000, 0},
                              {kTop, kPage, kTop, 12 * kPage}};
  MemoryMap map;
  std::vector<std::uint64_t> borders = {0, UINT64_MAX - 2};
  for (const RegionSpec& spec : specs) {
    ASSERT_TRUE(map.Add(spec, memory.DupFd()).has_value());
    borders.push_back(spec.guest_address);
    borders.push_back(spec.guest_address + spec.size_bytes);
  }
  // The offset in the file of a guest address, or -1.
  const auto find = [&](std::uint64_t address) -> std::int64_t {
    for (const RegionSpec& spec : specs) {
      if (address >= spec.guest_address && address - spec.guest_address < spec.size_bytes) {
        return static_cast<std::int64_t>(spec.mmap_offset + (address - spec.guest_address));
      }
    }
    return -1;
  };
  const auto is_there = [&](std::uint64_t begin, std::uint64_t length) {
    for (std::uint64_t i = 0; i < length; ++i) {
      if (i > 0x6000 || begin + i < begin || find(begin + i) < 0) return false;
    }
    return length > 0;
  };
  for (std::size_t i = 0; i < memory.bytes(); i += 8) *memory.At<std::uint64_t>(i) = i;
  int good = 0;
  MemoryMap::Window window;
  for (const std::uint64_t from : borders) {
    for (const std::uint64_t to : borders) {
      for (int off = -2; off <= 2; ++off) {
        for (int length_off = -2; length_off <= 2; ++length_off) {
          const std::uint64_t begin = from + static_cast<std::uint64_t>(off);
          const std::uint64_t length = to - from + static_cast<std::uint64_t>(length_off);
          SegmentList list;
          const bool is_ok =
              map.TranslateGuest(begin, length, list, window) == TranslateStatus::kOk;
          ASSERT_EQ(is_ok, is_there(begin, length)) << std::hex << begin << " " << length;
          if (!is_ok) continue;
          ++good;
          std::uint64_t at = begin;
          for (std::uint32_t piece = 0; piece < list.count; ++piece) {
            const auto* bytes = static_cast<const std::byte*>(list.segments[piece].iov_base);
            const std::size_t last = list.segments[piece].iov_len - 1;
            ASSERT_EQ(bytes[0], memory.base()[find(at)]);
            ASSERT_EQ(bytes[last], memory.base()[find(at + last)]);
            at += last + 1;
          }
          ASSERT_EQ(at, begin + length);
        }
      }
    }
  }
  EXPECT_GT(good, 100);
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

TEST(MemoryMapBorders, LeavesAddressesForOthers) {
  const UniqueFd sparse(::memfd_create("sparse", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(sparse.get(), static_cast<off_t>(2 * kMemoryBytesMax)), 0);
  const auto file = [&] { return UniqueFd(::dup(sparse.get())); };
  MemoryMap map;
  EXPECT_FALSE(map.Add({0, kMemoryBytesMax + 1, 0, 0}, file()).has_value());
  ASSERT_TRUE(map.Add({0, kMemoryBytesMax - kPage, 0, 0}, file()).has_value());
  const auto added = map.Add({1ULL << 45, kPage + 1, 1ULL << 45, 0}, file());
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.assume_error(), Errc::kTooBig);
  EXPECT_TRUE(map.Add({1ULL << 45, kPage, 1ULL << 45, 0}, file()).has_value());
}

TEST_F(MemoryMapTest, RefusesWhatIsNoMemoryFile) {
  UniqueFd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto added = map_.Add({0x90000, kPage, 0xa00000, 0}, std::move(fd));
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.assume_error(), Errc::kNotSupported);
}

// Who removes them decides where they are unmapped.
TEST_F(MemoryMapTest, HandsOutWhatItForgets) {
  *second_.At<char>(kPage) = 'x';
  auto removed = map_.Remove({0x12000, 4 * kPage, 0x900000, 0}).value();
  ASSERT_EQ(removed.size(), 1U);
  EXPECT_EQ(static_cast<char>(removed.front()->file.data()[kPage]), 'x');
  auto rest = map_.Clear();
  EXPECT_FALSE(rest.empty());
  EXPECT_EQ(map_.size(), 0U);
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

// Two queues that look in different regions do not disturb each other, and a window outlives the
// region it looked at.
TEST_F(MemoryMapTest, EachWindowPeeksWhereItsOwnLookWas) {
  MemoryMap::Window first, second;
  ASSERT_EQ(map_.TranslateGuest(0x10000, 8, list_, first), TranslateStatus::kOk);
  ASSERT_EQ(map_.TranslateGuest(0x13000, 8, list_, second), TranslateStatus::kOk);
  EXPECT_EQ(map_.PeekGuest(0x10008, 8, first),
            static_cast<std::byte*>(list_.segments[0].iov_base) + 8);
  EXPECT_EQ(map_.PeekGuest(0x10008, 8, second), nullptr);
  EXPECT_NE(map_.PeekGuest(0x13008, 8, second), nullptr);
  ASSERT_TRUE(map_.Remove({0x12000, 4 * kPage, 0x900000, 0}).has_value());
  EXPECT_EQ(map_.PeekGuest(0x13008, 8, second), nullptr);
  EXPECT_EQ(map_.TranslateGuest(0x10000, 8, list_, second), TranslateStatus::kOk);
}

TEST(Iotlb, TranslatesThroughUserAddressesAndAsksForWhatIsMissing) {
  FakeMemory memory(4 * kPage);
  AddressSpace space;
  ASSERT_TRUE(space.memory().Add({0x10000, 4 * kPage, 0x500000, 0}, memory.DupFd()).has_value());
  space.UseIotlb(true);
  SegmentList list;
  const AddressView view(space);
  IotlbMiss miss;
  EXPECT_EQ(view.Translate(0xabc000, 8, 1, list, miss), TranslateStatus::kMiss);
  EXPECT_EQ(miss.iova, 0xabc000u);
  ASSERT_TRUE(space.iotlb().Update(0xabc000, kPage, 0x501000, 1).has_value());
  ASSERT_EQ(view.Translate(0xabc008, 8, 1, list, miss), TranslateStatus::kOk);
  *memory.At<char>(kPage + 8) = 'q';
  EXPECT_EQ(*static_cast<char*>(list.segments[0].iov_base), 'q');
  EXPECT_EQ(view.Translate(0xabc008, 8, 2, list, miss), TranslateStatus::kMiss);  // read-only
  EXPECT_EQ(view.Translate(0xabcfff, 2, 1, list, miss), TranslateStatus::kMiss);  // second page
  EXPECT_EQ(miss.iova, 0xabd000u);
  space.iotlb().Invalidate(0xabc800, 1);
  EXPECT_EQ(view.Translate(0xabc008, 8, 1, list, miss), TranslateStatus::kMiss);
}

TEST(Iotlb, EntryThatPointsOutsideMemoryIsRefusedAtUse) {
  AddressSpace space;
  space.UseIotlb(true);
  ASSERT_TRUE(space.iotlb().Update(0, kPage, UINT64_MAX - kPage + 1, 3).has_value());
  SegmentList list;
  const AddressView view(space);
  IotlbMiss miss;
  EXPECT_EQ(view.Translate(0, 64, 1, list, miss), TranslateStatus::kBadAddress);
}

// Each entry costs the poller a step, for however little of a request.
TEST(Iotlb, RefusesPartsOfPages) {
  Iotlb iotlb;
  EXPECT_EQ(iotlb.Update(kPage, 1, 0, 3).error(), Errc::kBadAddress);
  EXPECT_EQ(iotlb.Update(kPage + 512, kPage, 0, 3).error(), Errc::kBadAddress);
  EXPECT_EQ(iotlb.Update(kPage, kPage, 512, 3).error(), Errc::kBadAddress);
  EXPECT_EQ(iotlb.size(), 0U);
  EXPECT_TRUE(iotlb.Update(kPage, 3 * kPage, 5 * kPage, 3).has_value());
}

// Pages that lie one behind another are one segment, however many they are: the steps are counted.
TEST(Iotlb, BoundsTheStepsOfAChain) {
  AddressSpace space;
  space.UseIotlb(true);
  FakeMemory memory(256 * kPage);
  ASSERT_TRUE(space.memory().Add({0, 256 * kPage, 0, 0}, memory.DupFd()).has_value());
  for (std::uint64_t page = 0; page < 256; ++page) {
    ASSERT_TRUE(space.iotlb().Update(page * kPage, kPage, page * kPage, 3).has_value());
  }
  const AddressView view(space);
  IotlbMiss miss;
  SegmentList list;
  std::uint32_t spans = 0;
  while (view.Translate(0, 256 * kPage, 1, list, miss) == TranslateStatus::kOk) ++spans;
  EXPECT_EQ(spans, kTranslationStepsMax / 256);
  EXPECT_LT(list.count, list.segments.size());
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
