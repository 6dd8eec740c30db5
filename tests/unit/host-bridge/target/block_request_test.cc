#include "host-bridge/target/block_request.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace filer::bridge {
namespace {

using virtio::RangeSegment;
using virtio::RequestHeader;

constexpr std::uint64_t kSectors = 1000;

// A chain in plain memory: header, readable payload, writable payload, status.
class BlockRequestTest : public testing::Test {
 protected:
  BlockRequestTest() : readable_(64 << 10, 0x11), writable_(64 << 10, 0xee) {
    device_.capacity_sectors = kSectors;
    device_.has_discard = device_.has_write_zeroes = true;
    device_.serial = "a serial number of more than twenty bytes";
  }
  RingFault Parse(std::uint32_t type, std::uint64_t sector, std::uint32_t out_bytes,
                  std::uint32_t in_bytes) {
    header_.type = type;
    header_.sector = sector;
    chain_ = {};
    Add(&header_, sizeof(header_), false);
    if (out_bytes > 0) Add(readable_.data(), out_bytes, false);
    if (in_bytes > 0) Add(writable_.data(), in_bytes, true);
    Add(&status_, 1, true);
    return ParseBlockRequest(chain_, device_, request_);
  }
  void Add(void* at, std::uint32_t length, bool is_writable) {
    if (is_writable && chain_.writable_bytes == 0) {
      chain_.readable_count = chain_.list.merge_from = chain_.list.count;
    }
    chain_.list.Append(static_cast<std::byte*>(at), length);
    (is_writable ? chain_.writable_bytes : chain_.readable_bytes) += length;
  }
  void ExpectAnswer(std::uint8_t status) {
    EXPECT_TRUE(request_.is_immediate);
    EXPECT_EQ(request_.status, status);
    EXPECT_EQ(request_.status_byte, &status_);
  }
  void SetRange(std::uint64_t sector, std::uint32_t count, std::uint32_t flags = 0) {
    auto* range = reinterpret_cast<RangeSegment*>(readable_.data());
    range->sector = sector;
    range->sector_count = count;
    range->flags = flags;
  }
  bool IsFilledWithZeroes(std::size_t bytes) const {
    for (std::size_t i = 0; i < bytes; ++i) {
      if (writable_[i] != 0) return false;
    }
    return writable_[bytes] == 0xee;
  }

  BlockDevice device_;
  RequestHeader header_;
  std::vector<std::uint8_t> readable_, writable_;
  std::uint8_t status_ = 0xff;
  Chain chain_;
  ParsedRequest request_;
};

TEST_F(BlockRequestTest, RefusesWhatHasNoHeaderOrNoStatus) {
  Add(&header_, sizeof(header_) - 1, false);
  Add(&status_, 1, true);
  EXPECT_EQ(ParseBlockRequest(chain_, device_, request_), RingFault::kNoHeader);
  chain_ = {};
  Add(&header_, sizeof(header_), false);
  EXPECT_EQ(ParseBlockRequest(chain_, device_, request_), RingFault::kNoStatus);
}

TEST_F(BlockRequestTest, RefusesSectorsBeyondTheEndAtEachBorder) {
  for (const std::uint32_t type : {virtio::kRequestIn, virtio::kRequestOut}) {
    const bool is_read = type == virtio::kRequestIn;
    for (const std::uint64_t sector : {kSectors - 1, kSectors, kSectors + 1, std::uint64_t{1} << 55,
                                       UINT64_MAX / 512, UINT64_MAX - 1, UINT64_MAX}) {
      ASSERT_EQ(Parse(type, sector, is_read ? 0 : 1024, is_read ? 1024 : 0), RingFault::kNone);
      ExpectAnswer(virtio::kStatusIoError);
    }
    ASSERT_EQ(Parse(type, kSectors - 2, is_read ? 0 : 1024, is_read ? 1024 : 0), RingFault::kNone);
    EXPECT_FALSE(request_.is_immediate);
    EXPECT_EQ(request_.backend.offset_bytes, (kSectors - 2) * 512);
  }
}

TEST_F(BlockRequestTest, RefusesPartsOfSectors) {
  for (const std::uint32_t bytes : {1U, 511U, 513U, 4095U}) {
    ASSERT_EQ(Parse(virtio::kRequestIn, 0, 0, bytes), RingFault::kNone);
    ExpectAnswer(virtio::kStatusIoError);
    ASSERT_EQ(Parse(virtio::kRequestOut, 0, bytes, 0), RingFault::kNone);
    ExpectAnswer(virtio::kStatusIoError);
  }
}

TEST_F(BlockRequestTest, ChangesNothingOnAReadOnlyVolume) {
  device_.is_read_only = true;
  SetRange(0, 8);
  for (const std::uint32_t type :
       {virtio::kRequestOut, virtio::kRequestDiscard, virtio::kRequestWriteZeroes}) {
    const std::uint32_t bytes = type == virtio::kRequestOut ? 512 : sizeof(RangeSegment);
    ASSERT_EQ(Parse(type, 0, bytes, 0), RingFault::kNone);
    ExpectAnswer(virtio::kStatusIoError);
  }
  ASSERT_EQ(Parse(virtio::kRequestIn, 0, 0, 512), RingFault::kNone);
  EXPECT_FALSE(request_.is_immediate);
}

TEST_F(BlockRequestTest, RefusesRangesThatOverflowOrAreTooLong) {
  struct Range {
    std::uint64_t sector;
    std::uint32_t count;
  };
  for (const Range range :
       {Range{kSectors, 1}, Range{kSectors - 1, 2}, Range{0, kSectors + 1}, Range{UINT64_MAX, 1},
        Range{UINT64_MAX, UINT32_MAX}, Range{UINT64_MAX - 7, 8}, Range{0, UINT32_MAX}}) {
    for (const std::uint32_t type : {virtio::kRequestDiscard, virtio::kRequestWriteZeroes}) {
      SetRange(range.sector, range.count);
      ASSERT_EQ(Parse(type, 0, sizeof(RangeSegment), 0), RingFault::kNone);
      ExpectAnswer(virtio::kStatusIoError);
    }
  }
  device_.capacity_sectors = UINT64_MAX / 512;  // the bound of a request itself
  SetRange(0, kDiscardSectorsMax + 1);
  ASSERT_EQ(Parse(virtio::kRequestDiscard, 0, sizeof(RangeSegment), 0), RingFault::kNone);
  ExpectAnswer(virtio::kStatusIoError);
  SetRange(0, kWriteZeroesSectorsMax + 1);
  ASSERT_EQ(Parse(virtio::kRequestWriteZeroes, 0, sizeof(RangeSegment), 0), RingFault::kNone);
  ExpectAnswer(virtio::kStatusIoError);
}

TEST_F(BlockRequestTest, RefusesRangesOfAnotherSizeOrWithFlagsItDoesNotKnow) {
  SetRange(0, 8);
  for (const std::uint32_t bytes : {0U, 1U, 15U, 17U, 32U}) {
    ASSERT_EQ(Parse(virtio::kRequestDiscard, 0, bytes, 0), RingFault::kNone);
    ExpectAnswer(virtio::kStatusIoError);
  }
  SetRange(0, 8, 2);
  ASSERT_EQ(Parse(virtio::kRequestWriteZeroes, 0, sizeof(RangeSegment), 0), RingFault::kNone);
  ExpectAnswer(virtio::kStatusUnsupported);
  SetRange(0, 8, 1);
  ASSERT_EQ(Parse(virtio::kRequestDiscard, 0, sizeof(RangeSegment), 0), RingFault::kNone);
  ExpectAnswer(virtio::kStatusUnsupported);
}

// What the header says must not change between two looks: it is copied before it is looked at.
TEST_F(BlockRequestTest, LooksAtItsOwnCopyOfHeaderAndRange) {
  SetRange(8, 8);
  ASSERT_EQ(Parse(virtio::kRequestDiscard, 0, sizeof(RangeSegment), 0), RingFault::kNone);
  header_.sector = UINT64_MAX;
  SetRange(UINT64_MAX, UINT32_MAX);
  EXPECT_EQ(request_.backend.offset_bytes, 8u * 512);
  EXPECT_EQ(request_.backend.length_bytes, 8u * 512);
}

TEST_F(BlockRequestTest, TakesAHeaderInPieces) {
  header_.type = virtio::kRequestIn;
  header_.sector = 3;
  auto* bytes = reinterpret_cast<std::uint8_t*>(&header_);
  std::vector<std::uint8_t> apart(32);
  for (std::uint32_t i = 0; i < sizeof(header_); ++i) {
    apart[2 * i] = bytes[i];
    Add(&apart[2 * i], 1, false);
  }
  Add(writable_.data(), 512, true);
  Add(&status_, 1, true);
  ASSERT_EQ(ParseBlockRequest(chain_, device_, request_), RingFault::kNone);
  EXPECT_EQ(request_.backend.offset_bytes, 3u * 512);
  EXPECT_EQ(request_.backend.segments.size(), 1u);
}

// --- the guest finds nothing that was not written for it

TEST_F(BlockRequestTest, FillsARefusedReadWithZeroes) {
  ASSERT_EQ(Parse(virtio::kRequestIn, kSectors, 0, 1024), RingFault::kNone);
  ExpectAnswer(virtio::kStatusIoError);
  EXPECT_TRUE(IsFilledWithZeroes(1024));
  EXPECT_EQ(request_.used_length, 1025u);
}

TEST_F(BlockRequestTest, FillsRoomThatARequestDoesNotUse) {
  for (const std::uint32_t type : {virtio::kRequestOut, virtio::kRequestFlush, 99U}) {
    std::memset(writable_.data(), 0xee, writable_.size());
    ASSERT_EQ(Parse(type, 0, type == virtio::kRequestOut ? 512 : 0, 100), RingFault::kNone);
    EXPECT_TRUE(IsFilledWithZeroes(100)) << type;
    EXPECT_EQ(request_.used_length, 101u) << type;
  }
}

TEST_F(BlockRequestTest, FillsBehindTheSerialNumber) {
  ASSERT_EQ(Parse(virtio::kRequestGetId, 0, 0, 64), RingFault::kNone);
  ExpectAnswer(virtio::kStatusOk);
  EXPECT_EQ(std::memcmp(writable_.data(), device_.serial.data(), virtio::kIdBytes), 0);
  for (std::size_t i = virtio::kIdBytes; i < 64; ++i) EXPECT_EQ(writable_[i], 0) << i;
  EXPECT_EQ(writable_[64], 0xee);
}

TEST_F(BlockRequestTest, ClaimsNothingWrittenWhereItFillsNothing) {
  std::vector<std::uint8_t> huge(kZeroFillBytesMax + 512, 0xee);
  for (const std::uint32_t type : {virtio::kRequestIn, virtio::kRequestGetId, 99U}) {
    chain_ = {};
    header_.type = type;
    header_.sector = kSectors;
    Add(&header_, sizeof(header_), false);
    Add(huge.data(), static_cast<std::uint32_t>(huge.size()), true);
    Add(&status_, 1, true);
    ASSERT_EQ(ParseBlockRequest(chain_, device_, request_), RingFault::kNone);
    ExpectAnswer(virtio::kStatusIoError);
    EXPECT_EQ(request_.used_length, 0u) << type;
  }
}

}  // namespace
}  // namespace filer::bridge
