#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "configs/command/volumes.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

class CreateVolumeIn : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  std::size_t FileCount() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  const std::string folder_ = testing::TempDir() + "create_" + std::to_string(::getpid());
  const configs::VolumeConfig volume_{
      .name = "v", .path = folder_ + "/v.img", .size_bytes = 256ULL << 20};
  const std::string unfinished_ = UnfinishedPath(volume_.path);
};

TEST_F(CreateVolumeIn, LeavesOneGoodFile) {
  const auto created = CreateVolume(volume_);
  ASSERT_TRUE(created.has_value()) << created.error().message();
  EXPECT_TRUE(InspectVolume(volume_).has_value());
  EXPECT_EQ(FileCount(), 1U);
}

TEST_F(CreateVolumeIn, NeverReplacesAFile) {
  std::ofstream(volume_.path) << "mine";
  EXPECT_EQ(CreateVolume(volume_).error(), Errc::kExists);
  EXPECT_EQ(ReadWholeFile(volume_.path).value(), "mine");
  fs::remove(volume_.path);
  fs::create_symlink("nowhere", volume_.path);
  EXPECT_EQ(CreateVolume(volume_).error(), Errc::kExists);
  EXPECT_EQ(FileCount(), 1U);
}

// As left by a maker that was killed before it had formatted the file.
TEST_F(CreateVolumeIn, AnUnfinishedOneIsNobodys) {
  std::ofstream(unfinished_) << "half";
  fs::resize_file(unfinished_, 256ULL << 20);
  EXPECT_EQ(InspectVolume(volume_).error(), Errc::kNotFound);
  const auto created = CreateVolume(volume_);
  ASSERT_TRUE(created.has_value()) << created.error().message();
  EXPECT_TRUE(InspectVolume(volume_).has_value());
  EXPECT_EQ(FileCount(), 1U);
}

TEST_F(CreateVolumeIn, AnotherMakerIsNotDisturbed) {
  std::ofstream(unfinished_) << "half";
  const UniqueFd maker(::open(unfinished_.c_str(), O_RDWR));
  ASSERT_EQ(::flock(maker.get(), LOCK_EX), 0);
  EXPECT_EQ(CreateVolume(volume_).error(), Errc::kBusy);
  EXPECT_EQ(ReadWholeFile(unfinished_).value(), "half");
  EXPECT_FALSE(fs::exists(volume_.path));
}

TEST_F(CreateVolumeIn, WhatIsNoFileIsNotRemoved) {
  fs::create_directories(unfinished_);
  EXPECT_EQ(CreateVolume(volume_).error(), Errc::kExists);
  EXPECT_TRUE(fs::is_directory(unfinished_));
}

}  // namespace
}  // namespace filer::command
