#include "base/mount_table.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

namespace filer {
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

class MountTable : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_ + "/a b"); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::string folder_ = std::filesystem::canonical(testing::TempDir()).string() + "/table_" +
                              std::to_string(::getpid());
};

TEST_F(MountTable, RealPathsFollowTheFoldersAbove) {
  std::filesystem::create_directory_symlink(folder_, folder_ + "/link");
  EXPECT_EQ(RealMountPoint(folder_ + "/link/a b/").value(), folder_ + "/a b");
  EXPECT_EQ(RealMountPoint(folder_ + "/link").value(), folder_ + "/link");
  EXPECT_EQ(RealMountPoint("/proc").value(), "/proc");
  EXPECT_EQ(RealMountPoint("relative").error(), Errc::kInvalidArgument);
  EXPECT_EQ(RealMountPoint("/").error(), Errc::kInvalidArgument);
  EXPECT_EQ(RealMountPoint(folder_ + "/missing/x").error(), Errc::kSystem);
}

TEST_F(MountTable, KnowsWhatTheKernelMounted) {
  EXPECT_TRUE(IsMountPoint("/proc"));
  EXPECT_FALSE(IsMountPoint(folder_ + "/a b"));
  EXPECT_FALSE(IsMountPoint("proc"));
  EXPECT_TRUE(MountPointsBelow(folder_).value().empty());
}

TEST_F(MountTable, FindsAMountBehindABlankAndALink) {
  const std::string mount_point = folder_ + "/a b";
  if (::mount("none", mount_point.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "no root";
  std::filesystem::create_directory_symlink(folder_, folder_ + "/link");
  EXPECT_TRUE(IsMountPoint(folder_ + "/link/a b"));
  const auto below = MountPointsBelow(folder_ + "/link");
  const auto inside = MountPointsBelow(mount_point);
  ASSERT_EQ(::umount(mount_point.c_str()), 0);
  EXPECT_EQ(below.value(), std::vector<std::string>{mount_point});
  EXPECT_TRUE(inside.value().empty());
}

}  // namespace
}  // namespace filer
