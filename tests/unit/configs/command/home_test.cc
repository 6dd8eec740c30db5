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

// Sockets and volumes lie below it, and their paths go into the bridge's options.
TEST(HomeAt, RefusesACommaAlsoBehindALink) {
  const std::string folder =
      fs::canonical(testing::TempDir()).string() + "/comma_" + std::to_string(::getpid());
  fs::create_directories(folder + "/a,path=b");
  fs::create_directory_symlink(folder + "/a,path=b", folder + "/link");
  const auto named = HomeAt(folder + "/a,path=b");
  const auto linked = HomeAt(folder + "/link");
  fs::remove_all(folder);
  for (const auto* home : {&named, &linked}) {
    ASSERT_TRUE(home->has_error());
    EXPECT_EQ(home->error(), Errc::kUsage);
    EXPECT_NE(home->error().message().find("choose a home without it"), std::string::npos);
  }
}

}  // namespace
}  // namespace filer::command
