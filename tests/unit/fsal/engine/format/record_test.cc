#include "fsal/engine/format/record.h"

#include <gtest/gtest.h>

#include <random>

namespace filer::engine {
namespace {

TEST(TakePair, ReadsBackWhatWasAppended) {
  std::string bytes;
  AppendPair(bytes, "key", "value");
  AppendPair(bytes, "gone", std::nullopt);
  AppendPair(bytes, "empty", "");
  std::string_view rest = bytes;
  auto pair = TakePair(rest).value();
  EXPECT_EQ(pair->key, "key");
  EXPECT_EQ(pair->value, "value");
  pair = TakePair(rest).value();
  EXPECT_EQ(pair->key, "gone");
  EXPECT_FALSE(pair->value);
  pair = TakePair(rest).value();
  EXPECT_EQ(pair->value, "");
  EXPECT_TRUE(rest.empty());
  EXPECT_FALSE(TakePair(rest).value());
}

TEST(TakePair, WaitsForMoreAtEveryCut) {
  std::string bytes;
  AppendPair(bytes, "key", "value");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    auto rest = std::string_view(bytes).substr(0, length);
    EXPECT_FALSE(TakePair(rest).value()) << length;
    EXPECT_EQ(rest.size(), length);
  }
}

TEST(TakePair, RefusesLengthsOutOfRange) {
  const auto refuse = [](std::uint16_t key_bytes, std::uint32_t value_bytes) {
    PairHeader header{};
    header.key_bytes = key_bytes;
    header.value_bytes = value_bytes;
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes.append(2000, 'x');
    std::string_view rest = bytes;
    return TakePair(rest).error() == Errc::kCorrupt;
  };
  EXPECT_TRUE(refuse(0, 1));
  EXPECT_TRUE(refuse(kRecordKeyBytesMax + 1, 1));
  EXPECT_TRUE(refuse(1, kRecordValueBytesMax + 1));
  EXPECT_TRUE(refuse(1, kErased - 1));
}

TEST(TakeTransaction, RefusesMoreThanThereIs) {
  TransactionHeader header{};
  header.change_count = 1;
  header.pair_bytes = 11;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(10, 'x');
  std::string_view rest = bytes;
  EXPECT_TRUE(TakeTransaction(rest).error() == Errc::kCorrupt);
  rest = std::string_view(bytes).substr(0, 7);
  EXPECT_TRUE(TakeTransaction(rest).error() == Errc::kCorrupt);
  bytes.push_back('x');
  rest = bytes;
  EXPECT_EQ(TakeTransaction(rest).value().pairs.size(), 11U);
}

TEST(TakePair, RandomBytesNeverLeaveTheInput) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random() % 64, '\0');
    for (auto& byte : bytes) byte = static_cast<char>(random() % 4);
    std::string_view rest = bytes;
    while (true) {
      const auto pair = TakePair(rest);
      if (!pair.has_value() || !pair.value()) break;
      ASSERT_GE(pair.value()->key.data(), bytes.data());
      ASSERT_LE(rest.data(), bytes.data() + bytes.size());
    }
  }
}

}  // namespace
}  // namespace filer::engine
