#include "workloads/bench/engine/loop_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "workloads/bench/server.h"

namespace filer::bench {
namespace {

struct LoopDevice {
  UniqueFd fd;
  std::string path;
  bool is_direct = false;
};

// Somebody else may take the same free one: then the next.
Result<LoopDevice> Attach(const std::string& image) {
  constexpr int kAttempts = 16;
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.is_open()) return Error::System(errno, "/dev/loop-control: no loop devices here");
  const UniqueFd file(::open(image.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.is_open()) return Error::System(errno, image);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return Error::System(errno, "no free loop device");
    LoopDevice device;
    device.path = fmt::format("/dev/loop{}", number);
    device.fd = UniqueFd(::open(device.path.c_str(), O_RDWR | O_CLOEXEC));
    if (!device.fd.is_open()) return Error::System(errno, device.path);
    loop_config config{};
    config.fd = static_cast<__u32>(file.get());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (::ioctl(device.fd.get(), LOOP_CONFIGURE, &config) != 0) {
      if (errno == EBUSY) continue;
      return Error::System(errno, device.path + ": cannot attach a file");
    }
    loop_info64 info{};
    device.is_direct = ::ioctl(device.fd.get(), LOOP_GET_STATUS64, &info) == 0 &&
                       (info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;
    return device;
  }
  return Error(Errc::kBusy, "other programs take every loop device that is free");
}

}  // namespace

Result<void> EnterOwnMountNamespace() {
  if (::unshare(CLONE_NEWNS) != 0) return Error::System(errno, "mounts need root");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Error::System(errno, "cannot keep mounts to this process");
  }
  return Ok();
}

Result<LoopMount> LoopMount::Make(const std::string& kind, const std::string& image,
                                  const std::string& mount_point, const std::string& log_path) {
  std::string program = "mkfs." + kind;
  for (const char* folder : {"", "/usr/sbin/", "/sbin/"}) {
    if (FindProgram(folder + program).empty()) continue;
    program = folder + program;
    break;
  }
  const LoopDevice device = FILER_TRY(Attach(image));
  // Without discard: the image's blocks stay allocated, as those of our volumes. Without lazy work:
  // it would be done while others are measured.
  std::vector<std::string> words = {program, "-q"};
  if (kind == "xfs") {
    words.insert(words.end(), {"-f", "-K"});
  } else {
    words.insert(words.end(), {"-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"});
  }
  words.push_back(device.path);
  const auto made = RunProgram(words, log_path);
  if (made.has_error()) return Error(made.error().code(), program + ": not installed");
  if (made.assume_value().exit_code != 0) {
    return Error(Errc::kSystem, fmt::format("{} {} failed, exit code {}", program, device.path,
                                            made.assume_value().exit_code));
  }
  if (::mount(device.path.c_str(), mount_point.c_str(), kind.c_str(), MS_NOSUID | MS_NODEV,
              nullptr) != 0) {
    return Error::System(errno, fmt::format("{}: cannot mount {}", device.path, kind));
  }
  return LoopMount(mount_point, device.is_direct);
}

LoopMount::~LoopMount() {
  if (mount_point_.empty()) return;
  constexpr int kAttempts = 100;
  for (int attempt = 0; ::umount2(mount_point_.c_str(), 0) != 0 && errno == EBUSY; ++attempt) {
    if (attempt == kAttempts) {
      ::umount2(mount_point_.c_str(), MNT_DETACH);  // goes with its last user
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace filer::bench
