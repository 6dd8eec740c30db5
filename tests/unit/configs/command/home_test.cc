#include "configs/command/home.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace filer::command {
namespace {

namespace fs = std::filesystem;

TEST(HomeAt, IsResolvedOnceAndNeedNotExist) {
  const std::string folder =
      fs::canonical(testing::TempDir()).string() + "/home_" + std::to_string(::getpid());
  fs::create_directories(folder + "/real one");
  fs::create_directory_symlink(folder + "/real one", folder + "/link");
  const auto there = HomeAt(folder + "/link");
  const auto missing = HomeAt(folder + "/link/../link/new/");
  fs::remove_all(folder);
  EXPECT_EQ(there.value().root, folder + "/real one");
  EXPECT_EQ(missing.value().root, folder + "/real one/new");
}

TEST(HomeAt, RefusesRelativePaths) {
  EXPECT_EQ(HomeAt("").error(), Errc::kUsage);
  EXPECT_EQ(HomeAt("home").error(), Errc::kUsage);
}

}  // namespace
}  // namespace filer::command
