#include "base/file.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace filer {
namespace {

TEST(File, AtomicWriteReplacesAndReadsBack) {
  const std::string path = testing::TempDir() + "file_test_" + std::to_string(::getpid());
  ASSERT_TRUE(WriteFileAtomically(path, "one").has_value());
  ASSERT_TRUE(WriteFileAtomically(path, "two").has_value());
  EXPECT_EQ(ReadWholeFile(path).value(), "two");
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
  EXPECT_EQ(ReadWholeFile(path, 2).error(), Errc::kTooBig);
  std::filesystem::remove(path);
  EXPECT_EQ(ReadWholeFile(path).error(), Errc::kNotFound);
}

}  // namespace
}  // namespace filer
