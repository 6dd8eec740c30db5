#include "fsal/engine/fs/keys.h"

#include <gtest/gtest.h>

#include <random>

#include "fsal/engine/fs/quota_keys.h"

namespace filer::engine {
namespace {

TEST(SipHash, MatchesTheReferenceVectors) {  // Aumasson and Bernstein, appendix A
  SipKey key;
  for (std::uint8_t index = 0; index < 16; ++index) key[index] = index;
  std::vector<std::uint8_t> message;
  EXPECT_EQ(SipHash24(key, message), 0x726fdb47dd0e0e31ULL);
  for (std::uint8_t index = 0; index < 15; ++index) message.push_back(index);
  EXPECT_EQ(SipHash24(key, message), 0xa129ca6149be45e5ULL);
}

TEST(Keys, SortAsTheirNumbers) {
  EXPECT_LT(EntryKey(1, 255), EntryKey(1, 256));
  EXPECT_LT(EntryKey(1, UINT64_MAX), EntryKey(2, 0));
  EXPECT_LT(ExtentKey(7, 0xffff), EndOfInode('E', 7));
  EXPECT_EQ(EndOfInode('E', UINT64_MAX), "F");
  EXPECT_EQ(KeyInteger(EntryKey(5, 9), 1).value(), 9U);
  EXPECT_FALSE(KeyInteger("I123", 0).has_value());
}

TEST(Keys, ValuesSurviveTheirCodec) {
  InodeRecord record;
  record.kind = NodeKind::kSymlink;
  record.mode = 0777;
  record.size = 99;
  record.atime_ns = -5;
  record.change = UINT64_MAX;
  record.symlink = std::string(kSymlinkBytesMax, 's');
  record.project = 0xfffffff0;
  record.inherits_project = true;
  const InodeRecord back = DecodeInode(EncodeInode(record)).value();
  EXPECT_EQ(back.symlink, record.symlink);
  EXPECT_EQ(back.atime_ns, -5);
  EXPECT_EQ(back.change, UINT64_MAX);
  EXPECT_EQ(back.project, 0xfffffff0U);
  EXPECT_TRUE(back.inherits_project);
  Extent extent;
  extent.file_block = 12;
  extent.physical = 34;
  extent.length = 2;
  extent.checksums = {5, 6};
  const Extent found = DecodeExtent(ExtentKey(1, 12), EncodeExtent(extent)).value();
  EXPECT_EQ(found.checksums, extent.checksums);
  EXPECT_EQ(found.physical, 34U);
}

TEST(Keys, QuotasSortByPartKindAndId) {
  const auto usage = [](QuotaKind kind, std::uint32_t id) {
    return QuotaKeyOf(QuotaPart::kUsage, {kind, id});
  };
  EXPECT_LT(usage(QuotaKind::kUser, 255), usage(QuotaKind::kUser, 256));
  EXPECT_LT(usage(QuotaKind::kUser, UINT32_MAX), EndOfQuotas(QuotaPart::kUsage, QuotaKind::kUser));
  EXPECT_LT(EndOfQuotas(QuotaPart::kUsage, QuotaKind::kUser), usage(QuotaKind::kGroup, 0));
  EXPECT_LT(usage(QuotaKind::kProject, UINT32_MAX), EndOfQuotas(QuotaPart::kUsage));
  const QuotaId project{QuotaKind::kProject, 0x01020304};
  EXPECT_EQ(QuotaIdOf(QuotaKeyOf(QuotaPart::kLimits, project)).value(), project);
  for (const std::string& key :
       {std::string("Q"), std::string("QL\x03\0\0\0\1", 7), QuotaGraceKey(QuotaKind::kUser),
        usage(QuotaKind::kUser, 1) + "x"}) {
    EXPECT_TRUE(QuotaIdOf(key).error() == Errc::kCorrupt);
  }
}

TEST(Keys, QuotaValuesSurviveTheirCodecAndNothingElseDoes) {
  const QuotaLimits limits{1, UINT64_MAX, 3, 4};
  EXPECT_EQ(DecodeQuotaLimits(EncodeQuotaLimits(limits)).value(), limits);
  const QuotaDeadlines deadlines{5, INT64_MAX};
  EXPECT_EQ(DecodeQuotaDeadlines(EncodeQuotaDeadlines(deadlines)).value(), deadlines);
  EXPECT_EQ(DecodeQuotaGrace(EncodeQuotaGrace({7, 8})).value().inodes_seconds, 8U);
  const std::string negative(16, '\xff');
  EXPECT_TRUE(DecodeQuotaUsage(negative).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeQuotaDeadlines(negative).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeQuotaGrace(negative).error() == Errc::kCorrupt);
  for (const std::size_t bytes : {0, 15, 17, 31, 33}) {
    const std::string zeroes(bytes, '\0');
    EXPECT_FALSE(DecodeQuotaUsage(zeroes).has_value());
    EXPECT_FALSE(DecodeQuotaLimits(zeroes).has_value());
    EXPECT_FALSE(DecodeQuotaDeadlines(zeroes).has_value());
  }
}

// What a later release puts there must not be lost by one that does not know it.
TEST(Keys, AnInodesUnknownFlagsAreRefused) {
  const std::string sound = EncodeInode(InodeRecord{});
  for (unsigned bit = 0; bit < 8; ++bit) {
    std::string bytes = sound;
    bytes[sound.size() - 7] = static_cast<char>(1U << bit);
    EXPECT_EQ(DecodeInode(bytes).has_value(), bit == 0) << bit;  // inherits_project
  }
}

// Any change of a byte, any other length: an answer, never a crash.
TEST(Keys, DecodersTakeAnything) {
  std::mt19937 random(1);
  Extent extent;
  extent.length = 3;
  extent.checksums = {1, 2, 3};
  InodeRecord record;
  record.symlink = "target";
  const std::string samples[] = {EncodeInode(record), EncodeExtent(extent),
                                 EncodeName({4, {5, NodeKind::kFile, "name"}})};
  for (int round = 0; round < 30'000; ++round) {
    std::string bytes = samples[random() % 3];
    for (std::uint32_t flips = random() % 4; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(random() % 3 == 0 ? random() % (bytes.size() + 8) : bytes.size());
    static_cast<void>(DecodeInode(bytes).has_value());
    static_cast<void>(DecodeName(bytes).has_value());
    static_cast<void>(DecodeEntry(bytes).has_value());
    static_cast<void>(DecodeCounter(bytes).has_value());
    const auto decoded = DecodeExtent(ExtentKey(1, random()), bytes);
    if (decoded.has_value() && !decoded.value().is_unwritten) {
      ASSERT_EQ(decoded.value().checksums.size(), decoded.value().length);
    }
  }
}

}  // namespace
}  // namespace filer::engine
