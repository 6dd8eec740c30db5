// mounted_volume.h: a fresh volume in a file, served by a filer-mount of its own, for tests that
// use it as any program would.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::posix_door {

class MountedVolume : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
      GTEST_SKIP() << "needs root and /dev/fuse";
    }
    // Killing the process is what the tests do to the volume, so memory is durable enough.
    const std::string base = access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : testing::TempDir();
    folder_ = base + "posix_door_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    UniqueFd image(open(ImagePath().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(ftruncate(image.get(), 4LL << 30), 0);
    image.Reset();
    auto device = engine::OpenFileDevice({.path = ImagePath(), .pool_bytes = 64ULL << 20});
    ASSERT_TRUE(device.has_value()) << device.error().message();
    const auto formatted = engine::Engine::Format(
        *device.value(), {.volume_name = "posix-test", .overwrite = true, .random_seed = 1});
    ASSERT_TRUE(formatted.has_value()) << formatted.error().message();
    device.value().reset();
    Start();
  }

  void TearDown() override {
    if (folder_.empty()) return;
    if (pid_ > 0) {
      EXPECT_EQ(Stop(SIGTERM), 0);
    }
    umount2(Mount().c_str(), MNT_DETACH);  // only after a failure
    CheckVolume();
    std::filesystem::remove_all(folder_);
  }

  std::string Mount() const { return folder_ + "/mnt"; }
  std::string At(const std::string& name) const { return Mount() + "/" + name; }
  std::string ImagePath() const { return folder_ + "/volume.img"; }
  std::string LogPath() const { return folder_ + "/log"; }

  bool IsMounted() const {
    return ReadWholeFile("/proc/self/mountinfo").value().find(Mount() + " ") != std::string::npos;
  }

  pid_t Spawn(const std::vector<std::string>& more = {}) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    const int log = open(LogPath().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDERR_FILENO);
    const std::string device = "file:" + ImagePath();
    const std::string mount_point = Mount();
    std::vector<const char*> arguments = {"filer-mount",  device.c_str(), mount_point.c_str(),
                                          "--foreground", "--memory-mb",  "128"};
    for (const std::string& argument : more) arguments.push_back(argument.c_str());
    arguments.push_back(nullptr);
    execv(FILER_MOUNT_PROGRAM, const_cast<char* const*>(arguments.data()));
    _exit(127);
  }

  // Serves when it returns.
  void Start(const std::vector<std::string>& more = {}) {
    pid_ = Spawn(more);
    ASSERT_GT(pid_, 0);
    for (int i = 0; i < 600; ++i) {
      // Not of the mount that a killed one left: statvfs is not answered from the kernel's memory.
      struct statvfs space = {};
      struct stat root = {};
      if (IsMounted() && statvfs(Mount().c_str(), &space) == 0 &&
          stat(Mount().c_str(), &root) == 0 && root.st_ino == engine::kRootInode) {
        return;
      }
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << "filer-mount did not serve: " << ReadWholeFile(LogPath()).value();
  }

  // Exit code, or 128 + signal.
  int Stop(int signal) {
    kill(pid_, signal);
    return Wait();
  }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  void CheckVolume() {
    auto device = engine::OpenFileDevice(
        {.path = ImagePath(), .is_read_only = true, .pool_bytes = 64ULL << 20});
    ASSERT_TRUE(device.has_value()) << device.error().message();
    const auto report = engine::Engine::Check(*device.value(), true);
    ASSERT_TRUE(report.has_value()) << report.error().message();
    for (const auto& finding : report.value().findings) {
      ADD_FAILURE() << finding.what << " at " << finding.where << " " << finding.path;
    }
  }

  pid_t pid_ = -1;
  std::string folder_;
};

}  // namespace filer::posix_door
