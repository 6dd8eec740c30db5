#include "base/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/process.h"

namespace filer {
namespace {

// At first often: whoever starts again waits here, and a client waits for him.
constexpr int kFirstWaitStepMs = 1;
constexpr int kWaitStepMs = 20;
constexpr int kFirstWaitMs = 200;
constexpr int kWaitMs =
    20'000;  // the kernel closes the files of an io_uring some time after its process ended

// The pid in /proc/locks that holds a flock on this file, or 0. Lines look like
// "3: FLOCK  ADVISORY  WRITE 1234 fe:00:4711 0 EOF".
pid_t FindHolder(const struct stat& status) {
  const std::string file =
      fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream fields(line);
    std::string number, kind, mode, access, inode;
    pid_t pid = 0;
    if (fields >> number >> kind >> mode >> access >> pid >> inode && kind == "FLOCK" &&
        inode == file) {
      return pid;
    }
  }
  return 0;
}

}  // namespace

Result<void> LockVolumeFile(int fd, const std::string& path, bool is_exclusive) {
  const int kind = (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
  for (int waited_ms = 0;;) {
    if (::flock(fd, kind) == 0) return Ok();
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return Error::System(errno, "flock on " + path);

    struct stat status {};
    if (::fstat(fd, &status) != 0) return Error::System(errno, "fstat on " + path);
    const pid_t holder = FindHolder(status);
    const bool is_held = holder > 0 && !HasEnded(holder);
    if (is_held || waited_ms >= kWaitMs) {
      const std::string by = is_held ? fmt::format("process {}", holder) : "another process";
      return Error(Errc::kBusy,
                   fmt::format("{}: in use by {}; stop it, or use another volume", path, by));
    }
    const int step_ms = waited_ms < kFirstWaitMs ? kFirstWaitStepMs : kWaitStepMs;
    std::this_thread::sleep_for(std::chrono::milliseconds(step_ms));
    waited_ms += step_ms;
  }
}

}  // namespace filer
