// Contents of files: write, read, commit, truncate, holes, space.
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

using Data = EngineTest;

std::string Pattern(std::size_t bytes, std::uint32_t seed) {
  std::string text(bytes, '\0');
  for (char& byte : text) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>(seed >> 24);
  }
  return text;
}

TEST_F(Data, UnstableWriteIsReadAtOnceAndSurvivesRemount) {
  const NodeId file = fs().Create(fs().root(), "a");
  const std::string text = Pattern(3'000'000, 1);
  fs().Write(file, 0, text.substr(0, 1'000'001));
  fs().Write(file, 1'000'001, text.substr(1'000'001));
  EXPECT_EQ(fs().Read(file, 0, text.size()), text);
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, text.size());
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_EQ(fs().Read(file, 777, 2'000'000), text.substr(777, 2'000'000));
  fs().Remount();
  EXPECT_EQ(fs().Read(file, 0, text.size()), text);
  EXPECT_EQ(fs().Read(file, 4095, 4098), text.substr(4095, 4098));
  EXPECT_EQ(fs()->Counters().copied_read_bytes, 0U);
}

TEST_F(Data, KilledEngineKeepsWhatWasStable) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, "stable", Stability::kFileSync);
  fs().Write(file, 100'000, "lost");
  fs().Kill();
  fs().Mount();
  EXPECT_EQ(fs().Read(file, 0, 1000), "stable");
  EXPECT_EQ(fs()->GetAttributes(file).value().size_bytes, 6U);
}

}  // namespace
}  // namespace filer::engine
