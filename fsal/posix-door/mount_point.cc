#include "fsal/posix-door/mount_point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "base/mount_table.h"

namespace filer::posix_door {
namespace {

constexpr std::string_view kFileSystem = "fuse.nearmetal";
constexpr int kStaleMountsMax = 16;  // mounts on top of each other

Result<bool> IsOurMountPresent(const std::string& real_path) {
  const auto mounts = FILER_TRY(ReadMountTable());
  return std::any_of(mounts.begin(), mounts.end(), [&](const MountEntry& mount) {
    return mount.mount_point == real_path && mount.file_system == kFileSystem;
  });
}

Result<void> UnmountByHelper(const std::string& path, bool is_lazy) {
  std::array<const char*, 5> arguments = {"fusermount3", is_lazy ? "-uzq" : "-uq", "--",
                                          path.c_str(), nullptr};
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, arguments[0], nullptr, nullptr,
                                 const_cast<char* const*>(arguments.data()), environ);
  if (error != 0) return Error::System(error, "start fusermount3 for " + path);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return Ok();
  return Error(Errc::kBusy, fmt::format("fusermount3 could not unmount {}", path));
}

}  // namespace

Result<void> UnmountPath(const std::string& path, bool is_lazy) {
  if (umount2(path.c_str(), UMOUNT_NOFOLLOW | (is_lazy ? MNT_DETACH : 0)) == 0) return Ok();
  const int error = errno;
  if (error == EPERM) return UnmountByHelper(path, is_lazy);
  if (error == EBUSY) return Error(Errc::kBusy, fmt::format("{}: files are open there", path));
  return Error::System(error, "unmount " + path);
}

Result<void> PrepareMountPoint(const std::string& path) {
  const std::string real_path = FILER_TRY(RealMountPoint(path));
  for (int i = 0; i < kStaleMountsMax && FILER_TRY(IsOurMountPresent(real_path)); ++i) {
    // The kernel answers stat for a moment after the process's death (kernel_cache.h), statvfs
    // never.
    struct statvfs status = {};
    if (statvfs(real_path.c_str(), &status) == 0 || errno != ENOTCONN) {
      return Error(Errc::kBusy,
                   fmt::format("a filer is mounted on {} already; end it first or choose "
                               "another folder",
                               path));
    }
    FILER_LOG_WARN("{}: a mount was left behind by a killed process, unmounting it", path);
    FILER_TRY(UnmountPath(real_path, true));
  }
  if (mkdir(real_path.c_str(), 0755) != 0 && errno != EEXIST) {
    return Error::System(errno, "make the mount point " + path);
  }
  struct stat status = {};
  if (stat(real_path.c_str(), &status) != 0) return Error::System(errno, "mount point " + path);
  if (!S_ISDIR(status.st_mode)) {
    return Error(Errc::kNotDirectory, fmt::format("mount point {} is not a directory", path));
  }
  return Ok();
}

}  // namespace filer::posix_door
