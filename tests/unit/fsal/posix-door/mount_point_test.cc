#include "fsal/posix-door/mount_point.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace filer::posix_door {
namespace {

TEST(ParseMountInfo, ReadsTheKernelsLines) {
  const auto entries = ParseMountInfo(
      "22 1 0:21 / /proc rw,nosuid - proc proc rw\n"
      "36 22 0:60 / /run/x\\040y\\134/mnt rw,nosuid shared:7 master:1 - fuse.nearmetal "
      "nearmetal:main rw,user_id=0\n");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].mount_point, "/proc");
  EXPECT_EQ(entries[0].file_system, "proc");
  EXPECT_EQ(entries[1].mount_point, "/run/x y\\/mnt");
  EXPECT_EQ(entries[1].file_system, "fuse.nearmetal");
  EXPECT_EQ(entries[1].source, "nearmetal:main");
}

TEST(ParseMountInfo, LeavesOutWhatItDoesNotUnderstand) {
  EXPECT_TRUE(ParseMountInfo("").empty());
  EXPECT_TRUE(ParseMountInfo("\n\n").empty());
  EXPECT_TRUE(ParseMountInfo("1 2 3").empty());
  EXPECT_TRUE(ParseMountInfo("1 2 0:1 / /x rw -").empty());
  EXPECT_TRUE(ParseMountInfo("1 2 0:1 - fuse x rw").empty());
}

class MountPoint : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::string folder_ = testing::TempDir() + "mount_point_" + std::to_string(::getpid());
};

TEST_F(MountPoint, IsMadeIfMissing) {
  ASSERT_TRUE(PrepareMountPoint(folder_ + "/a").has_value());
  EXPECT_TRUE(std::filesystem::is_directory(folder_ + "/a"));
  EXPECT_TRUE(PrepareMountPoint(folder_ + "/a").has_value());
}

TEST_F(MountPoint, RefusesWhatIsNoFolder) {
  std::ofstream(folder_ + "/file") << "x";
  EXPECT_EQ(PrepareMountPoint(folder_ + "/file").error(), Errc::kNotDirectory);
  EXPECT_EQ(PrepareMountPoint(folder_ + "/missing/a").error(), Errc::kSystem);
  EXPECT_EQ(PrepareMountPoint("relative").error(), Errc::kInvalidArgument);
  EXPECT_EQ(PrepareMountPoint("/").error(), Errc::kInvalidArgument);
  EXPECT_EQ(PrepareMountPoint("").error(), Errc::kInvalidArgument);
}

}  // namespace
}  // namespace filer::posix_door
