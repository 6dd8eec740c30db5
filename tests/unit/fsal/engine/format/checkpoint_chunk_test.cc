#include "fsal/engine/format/checkpoint_chunk.h"

#include <gtest/gtest.h>

#include <vector>

namespace filer::engine {
namespace {

const VolumeUuid kUuid{7, 8, 9};

TEST(CheckpointChunksOf, RoundsUpAndNeverOverflows) {
  EXPECT_EQ(CheckpointChunksOf(0), 0U);
  EXPECT_EQ(CheckpointChunksOf(1), 1U);
  EXPECT_EQ(CheckpointChunksOf(kChunkPayloadBytesMax), 1U);
  EXPECT_EQ(CheckpointChunksOf(kChunkPayloadBytesMax + 1), 2U);
  EXPECT_GT(CheckpointChunksOf(UINT64_MAX), 1ULL << 40);
}

TEST(DecodeChunk, RefusesFlippedBitsAndOtherPlaces) {
  std::vector<std::byte> chunk(8192, std::byte{0x5A});
  ASSERT_EQ(SealChunk(chunk, kUuid, 12, 3, 5000), 8192U);
  const auto payload = DecodeChunk(chunk, kUuid, 12, 3);
  ASSERT_TRUE(payload.has_value()) << payload.error().message();
  EXPECT_EQ(payload.value().size(), 5000U);
  EXPECT_EQ(payload.value().front(), std::byte{0x5A});
  EXPECT_TRUE(DecodeChunk(chunk, kUuid, 12, 2).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeChunk(chunk, kUuid, 11, 3).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeChunk(chunk, VolumeUuid{}, 12, 3).error() == Errc::kCorrupt);
  EXPECT_TRUE(DecodeChunk(std::span(chunk).first(4096), kUuid, 12, 3).error() == Errc::kCorrupt);
  for (std::size_t bit = 0; bit < chunk.size() * 8; ++bit) {
    chunk[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_TRUE(DecodeChunk(chunk, kUuid, 12, 3).error() == Errc::kCorrupt) << bit;
    chunk[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace filer::engine
