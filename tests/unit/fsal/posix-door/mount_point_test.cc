#include "fsal/posix-door/mount_point.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace filer::posix_door {
namespace {

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
