// A volume gets its name when it is whole. Until then it has a name of its own beside it, and a
// lock that lasts as long as its maker: a maker that was killed leaves a file that the next one, of
// the same volume, may remove.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/file_lock.h"
#include "configs/command/console.h"
#include "configs/command/volumes.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kToolPoolBytes = 64ULL << 20;
constexpr int kAttempts = 8;  // each fails only if another maker came and went meanwhile

bool IsNamed(int fd, const std::string& path) {
  struct stat open {
  }, named{};
  return ::fstat(fd, &open) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

// Removes what a killed maker left. Errors: kBusy if its maker lives, kExists if it is none of
// ours.
Result<void> RemoveStale(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return Ok();
  if (!S_ISREG(status.st_mode)) return Error(Errc::kExists, path + ": not a file; move it away");
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!file.is_open()) return errno == ENOENT ? Ok() : Result<void>(Error::System(errno, path));
  FILER_TRY(LockVolumeFile(file.get(), path, true));
  // While we hold the lock of the file that has this name, its maker cannot be renaming it.
  if (IsNamed(file.get(), path)) ::unlink(path.c_str());
  return Ok();
}

// An empty file, locked, that is removed unless it is published.
class UnfinishedFile {
 public:
  static Result<UnfinishedFile> Create(const std::string& path) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!file.is_open() && errno != EEXIST) return Error::System(errno, "create " + path);
      if (!file.is_open()) {
        FILER_TRY(RemoveStale(path));
        continue;
      }
      FILER_TRY(LockVolumeFile(file.get(), path, true));
      if (IsNamed(file.get(), path)) return UnfinishedFile(std::move(file), path);
    }
    return Error(Errc::kBusy, path + ": others are making this volume; wait for them");
  }
  UnfinishedFile(UnfinishedFile&& other) noexcept = default;
  UnfinishedFile& operator=(UnfinishedFile&&) = delete;
  ~UnfinishedFile() {
    if (file_.is_open() && !is_published_) ::unlink(path_.c_str());
  }

  int fd() const { return file_.get(); }

  // Durable under its final name, which must be free. Errors: kExists, kSystem.
  Result<void> Publish(const std::string& path) {
    if (::fsync(file_.get()) != 0) return Error::System(errno, "fsync " + path_);
    int failure = 0;
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
      failure = errno;
    }
    if (failure == EINVAL) {
      // NFS cannot do that. A second name replaces nothing either; the first one goes afterwards.
      failure = ::link(path_.c_str(), path.c_str()) == 0 ? 0 : errno;
      if (failure == 0) ::unlink(path_.c_str());
    }
    if (failure == EEXIST) return Errc::kExists;
    if (failure != 0) return Error::System(failure, "rename " + path_);
    is_published_ = true;
    return SyncFolderOf(path);
  }

 private:
  UnfinishedFile(UniqueFd file, std::string path) : file_(std::move(file)), path_(path) {}
  UniqueFd file_;
  std::string path_;
  bool is_published_ = false;
};

Error AlreadyThere(const configs::VolumeConfig& volume) {
  return Error(Errc::kExists, fmt::format("volume {}: {}: the file exists; it is never "
                                          "overwritten. Choose another path or remove it",
                                          volume.name, volume.path));
}

Result<void> Format(const configs::VolumeConfig& volume, const UnfinishedFile& file) {
  const auto device = FILER_TRY(engine::OpenFileDevice(
      {.path = volume.path, .pool_bytes = kToolPoolBytes, .locked_fd = file.fd()}));
  return engine::Engine::Format(*device, {.volume_name = volume.name});
}

}  // namespace

std::string UnfinishedPath(const std::string& path) {
  const std::filesystem::path whole(path);
  return whole.parent_path() / ("." + whole.filename().string() + ".unfinished");
}

Result<void> CreateVolume(const configs::VolumeConfig& volume) {
  if (volume.size_bytes < configs::kVolumeBytesMin) {
    return Error(Errc::kTooSmall,
                 fmt::format("volume {}: {} is too small; at least {} are needed", volume.name,
                             HumanBytes(volume.size_bytes), HumanBytes(configs::kVolumeBytesMin)));
  }
  struct stat status {};
  if (::lstat(volume.path.c_str(), &status) == 0) return AlreadyThere(volume);
  auto file = UnfinishedFile::Create(UnfinishedPath(volume.path));
  if (!file) {
    return Error(file.error().code(),
                 fmt::format("volume {}: {}", volume.name, file.error().message()));
  }
  if (::ftruncate(file.value().fd(), static_cast<off_t>(volume.size_bytes)) != 0) {
    return Error::System(errno, fmt::format("volume {}: make {} {} long", volume.name, volume.path,
                                            HumanBytes(volume.size_bytes)));
  }
  if (auto formatted = Format(volume, file.value()); !formatted) {
    return Error(formatted.error().code(),
                 fmt::format("volume {}: {}: {}; is the disk full? Nothing was left behind",
                             volume.name, volume.path, formatted.error().message()));
  }
  const auto published = file.value().Publish(volume.path);
  if (!published && published.error() == Errc::kExists) return AlreadyThere(volume);
  return published;
}

}  // namespace filer::command
