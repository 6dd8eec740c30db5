#include "fsal/engine/device/file_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <vector>

#include "base/assert.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/thread_annotations.h"
#include "base/units.h"
#include "fsal/engine/device/arena.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {
namespace {

constexpr int kRelaxMs = 1;

Result<UniqueFd> OpenAndLock(const FileDeviceOptions& options) {
  if (options.locked_fd >= 0) {
    UniqueFd copy(::fcntl(options.locked_fd, F_DUPFD_CLOEXEC, 0));
    if (!copy.is_open()) return Error::System(errno, "duplicate the file of " + options.path);
    return copy;
  }
  const int access = options.is_read_only ? O_RDONLY : O_RDWR;
  UniqueFd fd(::open(options.path.c_str(), access | O_CLOEXEC));
  if (!fd.is_open()) {
    const int error = errno;
    if (error == ENOENT) {
      return Error(Errc::kNotFound, fmt::format("volume {} does not exist", options.path));
    }
    if (error == EACCES || error == EROFS) {
      return Error(Errc::kAccessDenied,
                   fmt::format("volume {} may not be opened for {}", options.path,
                               options.is_read_only ? "reading" : "writing"));
    }
    return Error::System(error, fmt::format("open volume {}", options.path));
  }
  FILER_TRY(LockVolumeFile(fd.get(), options.path, !options.is_read_only));
  return fd;
}

Result<std::uint64_t> SizeOf(const UniqueFd& fd, const FileDeviceOptions& options) {
  struct stat attributes = {};
  if (::fstat(fd.get(), &attributes) != 0) {
    return Error::System(errno, fmt::format("stat {}", options.path));
  }
  std::uint64_t size = 0;
  if (S_ISREG(attributes.st_mode)) {
    size = static_cast<std::uint64_t>(attributes.st_size);
  } else if (S_ISBLK(attributes.st_mode)) {
    if (::ioctl(fd.get(), BLKGETSIZE64, &size) != 0) {
      return Error::System(errno, fmt::format("size of {}", options.path));
    }
  } else {
    return Error(Errc::kInvalidArgument,
                 fmt::format("{} is neither a file nor a block device", options.path));
  }
  size = RoundDown(size, kBlockBytes);
  if (size < options.size_bytes_min || size == 0) {
    return Error(Errc::kTooSmall,
                 fmt::format("volume {} is too small: {} bytes, at least {} are needed",
                             options.path, size, options.size_bytes_min));
  }
  return size;
}

Errc StatusOf(int negative_errno) {
  switch (-negative_errno) {
    case ENOSPC:
    case EDQUOT:
      return Errc::kNoSpace;
    case EOPNOTSUPP:
      return Errc::kNotSupported;
    default:
      return Errc::kIo;
  }
}

class FileDevice final : public BlockDevice {
 public:
  FileDevice(UniqueFd fd, std::uint64_t size_bytes, const FileDeviceOptions& options, Arena arena)
      : info_{.size_bytes = size_bytes,
              .is_read_only = options.is_read_only,
              .has_volatile_cache = true,
              .can_discard = true,
              .depth_max = options.depth_max},
        fd_(std::move(fd)),
        arena_(std::move(arena)),
        pool_(arena_.bytes()),
        slots_(options.depth_max) {
    free_slots_.reserve(options.depth_max);
    for (std::uint32_t i = options.depth_max; i > 0; --i) free_slots_.push_back(i - 1);
  }
  ~FileDevice() override {
    FILER_ASSERT(free_slots_.size() == slots_.size());
    if (is_ring_open_) ::io_uring_queue_exit(&ring_);
  }

  Result<void> Start() {
    const int error = ::io_uring_queue_init(info_.depth_max, &ring_, 0);
    if (error < 0) {
      return Error::System(-error, "io_uring (allow it: sysctl kernel.io_uring_disabled=0)");
    }
    is_ring_open_ = true;
    return Ok();
  }

  DeviceInfo Info() const override { return info_; }
  BufferPool& Pool() override { return pool_; }

  Result<void> Submit(BlockRequest& request) override {
    FILER_TRY(CheckRequest(request, info_, pool_));
    MutexLock lock(mutex_);
    if (free_slots_.empty()) return Errc::kWouldBlock;
    const std::uint32_t index = free_slots_.back();
    free_slots_.pop_back();
    Slot& slot = slots_[index];
    slot.request = &request;
    slot.done_bytes = 0;
    slot.segment_first = 0;
    slot.segment_count = static_cast<std::uint32_t>(request.segments.size());
    std::copy(request.segments.begin(), request.segments.end(), slot.segments.begin());
    Start(index);
    return Ok();
  }

  std::uint32_t Poll(std::uint32_t completions_max) override {
    std::uint32_t count = 0;
    while (count < completions_max) {
      Finished finished;
      {
        MutexLock lock(mutex_);
        if (!TakeFinished(finished)) break;
      }
      ++count;
      FinishRequest(*finished.request, finished.is_ok, finished.status);
    }
    return count;
  }

  void Relax() override {
    // The ring's descriptor is readable while completions wait; a spurious wake-up does no harm.
    pollfd wait = {.fd = ring_.ring_fd, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, kRelaxMs) < 0) ::sched_yield();
  }

 private:
  struct Slot {
    BlockRequest* request = nullptr;
    std::uint64_t done_bytes = 0;  // after short transfers
    std::uint32_t segment_first = 0;
    std::uint32_t segment_count = 0;
    std::array<iovec, kRequestSegmentsMax> segments;
  };
  struct Finished {
    BlockRequest* request;
    bool is_ok;
    Errc status;
  };

  void Start(std::uint32_t index) FILER_REQUIRES(mutex_) {
    Slot& slot = slots_[index];
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    FILER_ASSERT(entry != nullptr);  // as many as there are slots, and each was submitted at once
    const BlockRequest& request = *slot.request;
    const std::uint64_t offset = request.offset_bytes + slot.done_bytes;
    const iovec* segments = slot.segments.data() + slot.segment_first;
    const std::uint32_t segment_count = slot.segment_count - slot.segment_first;
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    switch (request.operation) {
      case BlockOperation::kRead:
        ::io_uring_prep_readv(entry, fd_.get(), segments, segment_count, offset);
        break;
      case BlockOperation::kWrite:
        ::io_uring_prep_writev(entry, fd_.get(), segments, segment_count, offset);
        break;
      case BlockOperation::kFlush:
        ::io_uring_prep_fsync(entry, fd_.get(), IORING_FSYNC_DATASYNC);
        break;
      case BlockOperation::kDiscard:
      case BlockOperation::kWriteZeroes:  // a hole reads as zeroes, on files and block devices
        ::io_uring_prep_fallocate(entry, fd_.get(), kPunch, static_cast<off_t>(offset),
                                  static_cast<off_t>(request.length_bytes));
        break;
    }
    entry->user_data = index;
    while (::io_uring_submit(&ring_) < 0) ::sched_yield();  // EAGAIN, EINTR: the entry stays queued
  }

  // The next completed request, or false. Continues short transfers.
  bool TakeFinished(Finished& finished) FILER_REQUIRES(mutex_) {
    io_uring_cqe* entry = nullptr;
    while (::io_uring_peek_cqe(&ring_, &entry) == 0 && entry != nullptr) {
      const auto index = static_cast<std::uint32_t>(entry->user_data);
      const int result = entry->res;
      ::io_uring_cqe_seen(&ring_, entry);
      Slot& slot = slots_[index];
      if (NeedsMore(slot, result)) {
        Start(index);
        continue;
      }
      const bool is_transfer = IsTransfer(*slot.request);
      const bool is_ok = is_transfer ? slot.done_bytes == slot.request->length_bytes : result == 0;
      finished = {slot.request, is_ok, result < 0 ? StatusOf(result) : Errc::kIo};
      slot.request = nullptr;
      free_slots_.push_back(index);
      return true;
    }
    return false;
  }

  static bool IsTransfer(const BlockRequest& request) {
    return request.operation == BlockOperation::kRead ||
           request.operation == BlockOperation::kWrite;
  }

  // Accounts for `result` and tells whether the request has to go on.
  static bool NeedsMore(Slot& slot, int result) {
    if (result == -EINTR || result == -EAGAIN) return true;
    if (result <= 0 || !IsTransfer(*slot.request)) return false;
    auto bytes = static_cast<std::uint64_t>(result);
    slot.done_bytes += bytes;
    while (bytes > 0) {
      iovec& segment = slot.segments[slot.segment_first];
      const std::uint64_t now = std::min<std::uint64_t>(bytes, segment.iov_len);
      segment.iov_base = static_cast<std::byte*>(segment.iov_base) + now;
      segment.iov_len -= now;
      bytes -= now;
      if (segment.iov_len == 0) ++slot.segment_first;
    }
    return slot.done_bytes < slot.request->length_bytes;
  }

  const DeviceInfo info_;
  UniqueFd fd_;
  Arena arena_;
  BufferPool pool_;
  bool is_ring_open_ = false;
  Mutex mutex_;
  io_uring ring_ = {};
  std::vector<Slot> slots_;  // entries guarded by mutex_
  std::vector<std::uint32_t> free_slots_ FILER_GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> OpenFileDevice(const FileDeviceOptions& options) {
  if (options.depth_max == 0) return Errc::kInvalidArgument;
  UniqueFd fd = FILER_TRY(OpenAndLock(options));
  const std::uint64_t size_bytes = FILER_TRY(SizeOf(fd, options));
  Arena arena = FILER_TRY(Arena::Map(options.pool_bytes));
  auto device = std::make_unique<FileDevice>(std::move(fd), size_bytes, options, std::move(arena));
  FILER_TRY(device->Start());
  return std::unique_ptr<BlockDevice>(std::move(device));
}

}  // namespace filer::engine
