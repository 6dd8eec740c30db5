#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace filer {
namespace {

Result<void> WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error::System(errno, "write " + path);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd) != 0) return Error::System(errno, "fsync " + path);
  return Ok();
}

}  // namespace

void UniqueFd::Reset() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<std::string> ReadWholeFile(const std::string& path, std::size_t limit_bytes) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ENOENT) return Error(Errc::kNotFound, path + ": no such file");
    return Error::System(errno, "open " + path);
  }
  std::string content;
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(file.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::System(errno, "read " + path);
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
    if (content.size() > limit_bytes) return Error(Errc::kTooBig, path + ": file too large");
  }
}

Result<void> WriteFileAtomically(const std::string& path, std::string_view content, int mode) {
  const std::string temporary = path + ".new";
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!file.is_open()) return Error::System(errno, "create " + temporary);
  FILER_TRY(WriteAll(file.get(), content, temporary));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return Error::System(errno, "rename " + path);
  return SyncFolderOf(path);
}

Result<void> SyncFolderOf(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path();
  const UniqueFd directory(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A folder that may be written to but not listed cannot be synced by us.
  if (!directory.is_open() && errno == EACCES) return Ok();
  if (!directory.is_open()) return Error::System(errno, "open " + folder.string());
  if (::fsync(directory.get()) != 0) return Error::System(errno, "fsync " + folder.string());
  return Ok();
}

}  // namespace filer
