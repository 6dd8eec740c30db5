#include "base/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "base/file.h"

namespace filer {
namespace {

constexpr int kLevelsMax = 128;  // one open folder each
constexpr std::uint64_t kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// glibc has no wrapper. Fails with EXDEV where something is mounted.
UniqueFd OpenFolderBelow(int parent, const std::string& name) {
  open_how how{};
  how.flags = kFolderFlags;
  how.resolve = RESOLVE_NO_XDEV;
  return UniqueFd(
      static_cast<int>(::syscall(SYS_openat2, parent, name.c_str(), &how, sizeof(how))));
}

Result<std::vector<std::string>> NamesIn(int folder, const std::string& path) {
  UniqueFd copy(::fcntl(folder, F_DUPFD_CLOEXEC, 0));
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.get()), ::closedir);
  if (stream == nullptr) return Error::System(errno, "list " + path);
  copy.Release();  // closed with the stream
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  if (errno != 0) return Error::System(errno, "list " + path);
  return names;
}

Error RemoveError(int error, const std::string& path) {
  if (error == EXDEV || error == EBUSY) {
    return Error(Errc::kBusy, path + ": something is mounted there; unmount it first");
  }
  return Error::System(error, "remove " + path);
}

Result<void> RemoveBelow(int folder, const std::string& path, int level) {
  if (level == kLevelsMax) return Error(Errc::kTooBig, path + ": too many folders in each other");
  for (const std::string& name : FILER_TRY(NamesIn(folder, path))) {
    const std::string child = path + "/" + name;
    if (::unlinkat(folder, name.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR) return RemoveError(errno, child);
    const UniqueFd below = OpenFolderBelow(folder, name);
    if (!below.is_open()) return RemoveError(errno, child);
    FILER_TRY(RemoveBelow(below.get(), child, level + 1));
    if (::unlinkat(folder, name.c_str(), AT_REMOVEDIR) != 0) return RemoveError(errno, child);
  }
  return Ok();
}

}  // namespace

Result<void> RemoveTree(const std::string& path) {
  const UniqueFd folder(::open(path.c_str(), static_cast<int>(kFolderFlags)));
  if (!folder.is_open()) {
    if (errno == ENOENT) return Ok();
    // Not a folder: a file, or a symbolic link.
    if (errno != ENOTDIR && errno != ELOOP) return Error::System(errno, "open " + path);
    return ::unlink(path.c_str()) == 0 ? Ok() : Result<void>(RemoveError(errno, path));
  }
  FILER_TRY(RemoveBelow(folder.get(), path, 0));
  if (::rmdir(path.c_str()) != 0) return RemoveError(errno, path);
  return Ok();
}

}  // namespace filer
