// doors_test.cc: NFS and the POSIX door of one process show the same files at once, in both
// directions.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/file.h"
#include "tests/integration/nfs/client.h"
#include "tests/integration/nfs/ganesha_server.h"

namespace filer::test {
namespace {

class Doors : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/fuse";
    auto server = GaneshaServer::Create();
    ASSERT_TRUE(server.has_value()) << server.assume_error().message();
    server_ = std::move(server).assume_value();
    door_ = server_->folder() + "/door";
    ASSERT_EQ(::mkdir(door_.c_str(), 0755), 0);
    server_->SetModuleOptions("  Posix_Door = \"" + door_ + "\";\n");
    const auto started = server_->Start();
    ASSERT_TRUE(started.has_value()) << started.assume_error().message();
    auto client = Client::Mount(server_->Url(GetParam()));
    ASSERT_TRUE(client.has_value()) << client.assume_error().message();
    client_ = std::move(client).assume_value();
  }
  void TearDown() override {
    if (server_ == nullptr || !server_->IsRunning()) return;
    const auto exit_code = server_->Terminate(60);
    ASSERT_TRUE(exit_code.has_value()) << exit_code.assume_error().message();
    EXPECT_EQ(exit_code.assume_value(), 0) << server_->Log();
    const auto report = server_->Check();
    ASSERT_TRUE(report.has_value()) << report.assume_error().message();
    for (const auto& finding : report.assume_value().findings) {
      ADD_FAILURE() << finding.what << ", " << finding.where << ", " << finding.path;
    }
  }

  std::unique_ptr<GaneshaServer> server_;
  std::unique_ptr<Client> client_;
  std::string door_;
};

TEST_P(Doors, WhatOneWritesTheOtherReads) {
  const std::string content = Pattern(70'001, 1);
  ASSERT_EQ(client_->WriteFile("/by-nfs", content), 0) << client_->error();
  EXPECT_TRUE(ReadWholeFile(door_ + "/by-nfs").assume_value() == content);

  const std::string other = Pattern(50'003, 2);
  ASSERT_TRUE(WriteFileAtomically(door_ + "/by-posix", other).has_value());
  const auto read = client_->ReadFile("/by-posix");
  ASSERT_TRUE(read.has_value()) << read.assume_error().message();
  EXPECT_TRUE(read.assume_value() == other);
}

// Each change comes after NFS has cached what was before.
TEST_P(Doors, ChangesByPosixShowInNfsAtOnce) {
  ASSERT_EQ(client_->WriteFile("/f", "one"), 0);
  ASSERT_EQ(nfs_mkdir(**client_, "/d"), 0);
  EXPECT_EQ(client_->Stat("/f").nfs_size, 3U);
  EXPECT_TRUE(client_->List("/d").assume_value().empty());

  std::ofstream(door_ + "/f", std::ios::app) << "two";
  EXPECT_EQ(client_->Stat("/f").nfs_size, 6U);
  ASSERT_EQ(::chmod((door_ + "/f").c_str(), 0600), 0);
  EXPECT_EQ(client_->Stat("/f").nfs_mode & 07777, 0600U);

  std::ofstream(door_ + "/d/new") << "x";
  EXPECT_EQ(client_->List("/d").assume_value().size(), 1U);
  EXPECT_NE(client_->Stat("/d/new").nfs_ino, 0U);
  ASSERT_EQ(::rename((door_ + "/d/new").c_str(), (door_ + "/d/renamed").c_str()), 0);
  EXPECT_EQ(client_->Stat("/d/new").nfs_ino, 0U);
  EXPECT_NE(client_->Stat("/d/renamed").nfs_ino, 0U);
  ASSERT_EQ(::unlink((door_ + "/d/renamed").c_str()), 0);
  EXPECT_EQ(client_->Stat("/d/renamed").nfs_ino, 0U);
  EXPECT_TRUE(client_->List("/d").assume_value().empty());
}

TEST_P(Doors, ChangesByNfsShowInPosixAtOnce) {
  ASSERT_EQ(client_->WriteFile("/f", "one"), 0);
  EXPECT_EQ(std::filesystem::file_size(door_ + "/f"), 3U);
  ASSERT_EQ(client_->WriteFile("/f", "longer"), 0);
  EXPECT_EQ(std::filesystem::file_size(door_ + "/f"), 6U);
  EXPECT_EQ(ReadWholeFile(door_ + "/f").assume_value(), "longer");
  ASSERT_EQ(nfs_unlink(**client_, "/f"), 0);
  EXPECT_FALSE(std::filesystem::exists(door_ + "/f"));
}

// The kernel has just been asked for each name and its attributes, so it remembers them.
TEST_P(Doors, WhatTheKernelRemembersIsOutdatedByNfs) {
  namespace fs = std::filesystem;
  ASSERT_EQ(nfs_mkdir(**client_, "/d"), 0);
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    EXPECT_FALSE(fs::exists(door_ + "/d/a"));
    ASSERT_EQ(client_->WriteFile("/d/a", std::string(static_cast<std::size_t>(round), 'x')), 0);
    ASSERT_TRUE(fs::exists(door_ + "/d/a"));
    EXPECT_EQ(fs::file_size(door_ + "/d/a"), static_cast<std::size_t>(round));
    ASSERT_EQ(nfs_chmod(**client_, "/d/a", 0600 + round % 64), 0);
    EXPECT_EQ(static_cast<int>(fs::status(door_ + "/d/a").permissions()), 0600 + round % 64);
    EXPECT_FALSE(fs::exists(door_ + "/d/b"));
    ASSERT_EQ(nfs_rename(**client_, "/d/a", "/d/b"), 0);
    EXPECT_FALSE(fs::exists(door_ + "/d/a"));
    EXPECT_TRUE(fs::exists(door_ + "/d/b"));
    ASSERT_EQ(nfs_rename(**client_, "/d", "/e"), 0);
    EXPECT_FALSE(fs::exists(door_ + "/d/b"));
    EXPECT_TRUE(fs::exists(door_ + "/e/b"));
    ASSERT_EQ(nfs_rename(**client_, "/e", "/d"), 0);
    ASSERT_EQ(nfs_unlink(**client_, "/d/b"), 0);
    EXPECT_FALSE(fs::exists(door_ + "/d/b"));
  }
}

// Programs change one folder through the kernel, which holds its lock meanwhile, and NFS clients
// change the same one, which has to be told to the kernel: nobody may wait for good.
// The kernel still knows it, and has forgotten nothing.
TEST_P(Doors, ALookupByPosixKeepsSpaceForAMomentOnly) {
  const auto free_bytes = [this] { return std::filesystem::space(door_).free; };
  ASSERT_EQ(client_->WriteFile("/big", Pattern(8 << 20, 1)), 0);
  ASSERT_TRUE(std::filesystem::exists(door_ + "/big"));
  const std::uintmax_t full = free_bytes();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));  // no word of it is due any more
  ASSERT_EQ(nfs_unlink(**client_, "/big"), 0);
  for (int i = 0; i < 1000 && free_bytes() < full + (4 << 20); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(free_bytes(), full + (4 << 20));
}

TEST_P(Doors, ChangesOfOneFolderFromBothSidesGoOn) {
  ASSERT_EQ(nfs_mkdir(**client_, "/d"), 0);
  constexpr int kRounds = 100;
  std::vector<std::thread> programs;
  for (int number = 0; number < 4; ++number) {
    programs.emplace_back([this, number] {
      for (int i = 0; i < kRounds; ++i) {
        const std::string name = door_ + "/d/p" + std::to_string(number);
        std::ofstream(name) << i;
        EXPECT_EQ(::rename(name.c_str(), (name + "x").c_str()), 0);
        EXPECT_EQ(::unlink((name + "x").c_str()), 0);
        static_cast<void>(std::filesystem::exists(door_ + "/d/n"));
      }
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(client_->WriteFile("/d/n", "x"), 0) << client_->error();
    EXPECT_EQ(nfs_rename(**client_, "/d/n", "/d/m"), 0) << client_->error();
    EXPECT_EQ(nfs_unlink(**client_, "/d/m"), 0) << client_->error();
  }
  for (std::thread& program : programs) program.join();
  EXPECT_TRUE(client_->List("/d").assume_value().empty());
}

// NFSv3 has no locks here.
class Doors4 : public Doors {};

TEST_P(Doors4, LocksAreOneTable) {
  ASSERT_EQ(client_->WriteFile("/f", "0123456789"), 0);
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open(**client_, "/f", O_RDWR, &file), 0) << client_->error();
  ASSERT_EQ(nfs_lockf(**client_, file, NFS4_F_TLOCK, 10), 0) << client_->error();
  const UniqueFd posix(::open((door_ + "/f").c_str(), O_RDWR));
  ASSERT_TRUE(posix.is_open());
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 5;
  EXPECT_EQ(::fcntl(posix.get(), F_SETLK, &lock), -1);
  EXPECT_TRUE(errno == EAGAIN || errno == EACCES);
  ASSERT_EQ(nfs_lockf(**client_, file, NFS4_F_ULOCK, 10), 0) << client_->error();
  EXPECT_EQ(::fcntl(posix.get(), F_SETLK, &lock), 0);
  EXPECT_LT(nfs_lockf(**client_, file, NFS4_F_TLOCK, 10), 0);
  nfs_close(**client_, file);
}

INSTANTIATE_TEST_SUITE_P(Versions, Doors, testing::Values(3, 4), [](const auto& information) {
  return "V" + std::to_string(information.param);
});
INSTANTIATE_TEST_SUITE_P(Versions, Doors4, testing::Values(4), [](const auto&) { return "V4"; });

}  // namespace
}  // namespace filer::test
