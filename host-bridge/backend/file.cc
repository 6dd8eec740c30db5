// file.cc: a volume in a regular file or on a block device: opens, locks and measures it.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "base/file_lock.h"
#include "base/log.h"
#include "base/units.h"
#include "host-bridge/backend/backend.h"
#include "host-bridge/backend/file_queue.h"

namespace filer::bridge {
namespace {

constexpr std::uint64_t kVolumeBytesMin = 4096;

struct DirectAlignment {
  bool is_usable = false;
  std::uint32_t memory = 512;
  std::uint32_t offset = 512;
};

// Whether and how the file takes O_DIRECT. A volume is addressed in sectors of 512 bytes; where the
// file system wants more than that, mixing direct and buffered I/O would lose neighbours' data, so
// all of it is buffered there.
DirectAlignment FindDirectAlignment(int fd) {
  DirectAlignment alignment;
  struct statfs system {};
  if (::fstatfs(fd, &system) != 0 || system.f_type == TMPFS_MAGIC) return alignment;
#ifdef STATX_DIOALIGN
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    alignment.memory = status.stx_dio_mem_align;
    alignment.offset = status.stx_dio_offset_align;
  }
#endif
  alignment.is_usable =
      alignment.memory > 0 && alignment.offset > 0 && alignment.offset <= kSectorBytes;
  return alignment;
}

class FileBackend final : public Backend {
 public:
  FileBackend(UniqueFd fd, const FileBackendOptions& options) : fd_(std::move(fd)) {
    file_.fd = fd_.get();
    file_.path = options.path;
    file_.is_read_only = options.is_read_only;
  }

  Result<std::uint64_t> FindSize() const {
    const off_t end = ::lseek(fd_.get(), 0, SEEK_END);
    if (end < 0) return Error::System(errno, "lseek on " + file_.path);
    return RoundDown(static_cast<std::uint64_t>(end), kSectorBytes);
  }

  Result<void> Measure() {
    const std::uint64_t end = FILER_TRY(FindSize());
    file_.size_bytes.store(end, std::memory_order_relaxed);
    if (end < kVolumeBytesMin) {
      return Error(Errc::kTooSmall, fmt::format("{}: {} bytes is too small for a volume; create "
                                                "it with at least {} bytes",
                                                file_.path, end, kVolumeBytesMin));
    }
    return Ok();
  }

  Result<void> Remeasure() override {
    const std::uint64_t end = FILER_TRY(FindSize());
    const std::uint64_t before = file_.size_bytes.load(std::memory_order_relaxed);
    if (end < before) {
      return Error(Errc::kTooSmall, fmt::format("{}: has {} bytes now, and had {}; a volume in use "
                                                "cannot shrink",
                                                file_.path, end, before));
    }
    file_.size_bytes.store(end, std::memory_order_relaxed);
    return Ok();
  }

  void TryDirect() {
    const DirectAlignment alignment = FindDirectAlignment(fd_.get());
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (!alignment.is_usable || ::fcntl(fd_.get(), F_SETFL, flags | O_DIRECT) != 0) {
      FILER_LOG_INFO("{}: no direct I/O here, using the page cache", file_.path);
      return;
    }
    file_.memory_align = alignment.memory;
    file_.length_align = kSectorBytes;
  }

  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = file_.size_bytes.load(std::memory_order_relaxed);
    info.is_read_only = file_.is_read_only;
    info.can_discard = !file_.is_read_only;
    info.can_write_zeroes = !file_.is_read_only;
    return info;
  }

  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t depth_max) override {
    return std::unique_ptr<BackendQueue>(FILER_TRY(FileQueue::Create(file_, depth_max)));
  }

 private:
  UniqueFd fd_;
  VolumeFile file_;
};

}  // namespace

Result<std::unique_ptr<Backend>> OpenFileBackend(const FileBackendOptions& options) {
  const int flags = (options.is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  UniqueFd fd(::open(options.path.c_str(), flags));
  if (!fd.is_open() && (errno == ENOENT || errno == ENOTDIR)) {
    return Error(Errc::kNotFound,
                 fmt::format("{}: no such volume file; create the volume first", options.path));
  }
  if (!fd.is_open()) {
    const int error = errno;
    return Error::System(error, fmt::format("{}: cannot open the volume", options.path));
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return Error::System(errno, "fstat on " + options.path);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("{}: a volume must be a file or a block device", options.path));
  }
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
  FILER_TRY(LockVolumeFile(fd.get(), options.path, !options.is_read_only));
  auto backend = std::make_unique<FileBackend>(std::move(fd), options);
  FILER_TRY(backend->Measure());
  backend->TryDirect();
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace filer::bridge
