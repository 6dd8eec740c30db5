#include "base/remove_tree.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace filer {
namespace {

namespace fs = std::filesystem;

class RemoveTreeIn : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(run_ + "/a b/c");
    std::ofstream(run_ + "/a b/c/file") << "x";
    fs::create_directories(other_);
    std::ofstream(other_ + "/data") << "precious";
  }
  void TearDown() override { fs::remove_all(folder_); }
  const std::string folder_ = testing::TempDir() + "remove_" + std::to_string(::getpid());
  const std::string run_ = folder_ + "/run";
  const std::string other_ = folder_ + "/other";
};

TEST_F(RemoveTreeIn, RemovesFoldersFilesAndLinksButNotTheirTargets) {
  fs::create_directory_symlink(other_, run_ + "/link");
  fs::create_symlink("nowhere", run_ + "/dangling");
  ASSERT_TRUE(RemoveTree(run_).has_value());
  EXPECT_FALSE(fs::exists(run_));
  EXPECT_TRUE(fs::exists(other_ + "/data"));
  EXPECT_TRUE(RemoveTree(run_).has_value()) << "nothing there is fine";
}

TEST_F(RemoveTreeIn, ALinkItselfIsRemovedAndNotFollowed) {
  fs::create_directory_symlink(other_, folder_ + "/link");
  ASSERT_TRUE(RemoveTree(folder_ + "/link").has_value());
  EXPECT_FALSE(fs::is_symlink(folder_ + "/link"));
  EXPECT_TRUE(fs::exists(other_ + "/data"));
}

// A bind mount is of the same file system: the device number would not tell.
TEST_F(RemoveTreeIn, NeverEntersAMount) {
  const std::string mount_point = run_ + "/a b/c";
  if (::mount(other_.c_str(), mount_point.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "no root";
  }
  const auto removed = RemoveTree(run_);
  ASSERT_EQ(::umount(mount_point.c_str()), 0);
  ASSERT_FALSE(removed.has_value());
  EXPECT_EQ(removed.error(), Errc::kBusy);
  EXPECT_NE(removed.error().message().find(mount_point), std::string::npos);
  EXPECT_TRUE(fs::exists(other_ + "/data"));
  EXPECT_TRUE(RemoveTree(run_).has_value());
}

TEST_F(RemoveTreeIn, SaysWhatItCannotRemove) {
  EXPECT_EQ(RemoveTree("/proc/self/status").error(), Errc::kSystem);
  std::string deep = run_;
  for (int level = 0; level < 140; ++level) deep += "/d";
  fs::create_directories(deep);
  EXPECT_EQ(RemoveTree(run_).error(), Errc::kTooBig);
}

}  // namespace
}  // namespace filer
