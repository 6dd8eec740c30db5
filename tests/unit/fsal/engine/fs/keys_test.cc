#include "fsal/engine/fs/keys.h"

#include <gtest/gtest.h>

#include <random>

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
  const InodeRecord back = DecodeInode(EncodeInode(record)).value();
  EXPECT_EQ(back.symlink, record.symlink);
  EXPECT_EQ(back.atime_ns, -5);
  EXPECT_EQ(back.change, UINT64_MAX);
  Extent extent;
  extent.file_block = 12;
  extent.physical = 34;
  extent.length = 2;
  extent.checksums = {5, 6};
  const Extent found = DecodeExtent(ExtentKey(1, 12), EncodeExtent(extent)).value();
  EXPECT_EQ(found.checksums, extent.checksums);
  EXPECT_EQ(found.physical, 34U);
}

// What a later release puts there must not be lost by one that does not know it.
TEST(Keys, AnInodesReservedSpaceIsZero) {
  const std::string sound = EncodeInode(InodeRecord{});
  for (const std::size_t at : {sound.size() - 7, sound.size() - 3}) {
    std::string bytes = sound;
    bytes[at] = 1;
    EXPECT_FALSE(DecodeInode(bytes).has_value()) << at;
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
