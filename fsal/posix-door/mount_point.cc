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
#include <climits>
#include <cstdlib>

#include "base/file.h"
#include "base/log.h"

namespace filer::posix_door {
namespace {

constexpr std::string_view kFileSystem = "fuse.nearmetal";
constexpr int kStaleMountsMax = 16;  // mounts on top of each other

// mountinfo writes blanks, tabs, line ends and backslashes as three octal digits.
std::string Unescape(std::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t blank = line.find(' ');
    if (blank != 0) words.push_back(line.substr(0, blank));
    if (blank == std::string_view::npos) break;
    line.remove_prefix(blank + 1);
  }
  return words;
}

// The path as mountinfo has it. realpath would ask a dead mount about itself, so only the folder
// above is resolved.
Result<std::string> RealMountPoint(const std::string& path) {
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  if (plain.empty() || plain[0] != '/') {
    return Error(Errc::kInvalidArgument,
                 fmt::format("mount point \"{}\" is not an absolute path", path));
  }
  if (plain == "/") return Error(Errc::kInvalidArgument, "the root cannot be the mount point");
  const std::size_t slash = plain.rfind('/');
  const std::string parent = slash == 0 ? "/" : plain.substr(0, slash);
  std::array<char, PATH_MAX> resolved{};
  if (realpath(parent.c_str(), resolved.data()) == nullptr) {
    return Error::System(errno, "folder of the mount point " + plain);
  }
  const std::string folder = resolved.data();
  return (folder == "/" ? "" : folder) + plain.substr(slash);
}

Result<bool> IsOurMountPresent(const std::string& real_path) {
  const std::string text = FILER_TRY(ReadWholeFile("/proc/self/mountinfo"));
  const auto mounts = ParseMountInfo(text);
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

std::vector<MountEntry> ParseMountInfo(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const auto words = Words(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    // id parent major:minor root mount_point options [optional...] - type source super_options
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 3) continue;
    entries.push_back({.mount_point = Unescape(words[4]),
                       .file_system = Unescape(*(dash + 1)),
                       .source = Unescape(*(dash + 2))});
  }
  return entries;
}

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
    // The kernel answers stat for a moment after the process's death (kernel_cache.h), statvfs never.
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
