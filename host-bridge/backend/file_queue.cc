#include "host-bridge/backend/file_queue.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace filer::bridge {
namespace {

constexpr std::size_t kRegisteredBytesMax = 1 << 30;  // the kernel's limit for one buffer
constexpr std::size_t kRegisteredCountMax = 256;

// Moves bytes between a buffer and the segments, from `skip` bytes into them.
void CopySegments(std::span<const iovec> segments, std::uint64_t skip, std::byte* buffer,
                  std::size_t length, bool is_to_segments) {
  for (const iovec& segment : segments) {
    if (length == 0) return;
    if (skip >= segment.iov_len) {
      skip -= segment.iov_len;
      continue;
    }
    auto* at = static_cast<std::byte*>(segment.iov_base) + skip;
    const std::size_t piece = std::min<std::size_t>(segment.iov_len - skip, length);
    if (is_to_segments) {
      std::memcpy(at, buffer, piece);
    } else {
      std::memcpy(buffer, at, piece);
    }
    buffer += piece;
    length -= piece;
    skip = 0;
  }
}

// Registering pins every page, so it is for memory that is there already: pre-faulted guests.
bool IsResident(const iovec& region) {
  constexpr std::size_t kStepBytes = 64 << 20;
  std::vector<unsigned char> pages(kStepBytes / 4096);
  auto* at = static_cast<std::byte*>(region.iov_base);
  for (std::size_t done = 0; done < region.iov_len; done += kStepBytes) {
    const std::size_t step = std::min(kStepBytes, region.iov_len - done);
    if (::mincore(at + done, step, pages.data()) != 0) return false;
    const auto end = pages.begin() + static_cast<std::ptrdiff_t>((step + 4095) / 4096);
    if (std::any_of(pages.begin(), end, [](unsigned char page) { return (page & 1) == 0; })) {
      return false;
    }
  }
  return true;
}

}  // namespace

FileQueue::FileQueue(VolumeFile& file, std::uint32_t depth_max)
    : file_(file), operations_(depth_max) {
  free_operations_.reserve(depth_max);
  for (std::uint32_t i = depth_max; i > 0; --i) free_operations_.push_back(i - 1);
  waiting_.reserve(depth_max);
  for (std::uint32_t i = kBounceCount; i > 0; --i) free_bounces_.push_back(i - 1);
}

Result<std::unique_ptr<FileQueue>> FileQueue::Create(VolumeFile& file, std::uint32_t depth_max) {
  FILER_ASSERT(depth_max > 0);
  std::unique_ptr<FileQueue> queue(new FileQueue(file, depth_max));
  const unsigned entries = std::bit_ceil(depth_max);
  // Completions are handed over when its poller looks, without an interrupt. Not SINGLE_ISSUER: the
  // queue may be lent to another poller, and the kernel would not take its requests there.
  io_uring_params params{};
  params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  int failed = io_uring_queue_init_params(entries, &queue->ring_, &params);
  if (failed == -EINVAL) {  // kernels before 5.19
    params = {};
    failed = io_uring_queue_init_params(entries, &queue->ring_, &params);
  }
  if (failed < 0) return Error::System(-failed, "io_uring for " + file.path);
  queue->is_ring_open_ = true;
  failed = io_uring_register_files(&queue->ring_, &file.fd, 1);
  if (failed < 0) return Error::System(-failed, "io_uring_register_files for " + file.path);
  queue->KeepWorkersApart();

  void* bounces = ::mmap(nullptr, kBounceCount * kBounceBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bounces == MAP_FAILED) return Error::System(errno, "mmap of bounce buffers");
  queue->bounces_ = static_cast<std::byte*>(bounces);
  return queue;
}

// The kernel's workers of a thread flush for it, and do whatever would block; they inherit its
// processors. A poller with one of its own never gives that up: a flush would wait for the
// scheduler to take it away, some 25 ms. So they run on the others that the process has. Once per
// thread: when it makes a ring, or first submits to one that another thread made (before that it
// has no workers: EINVAL).
void FileQueue::KeepWorkersApart() {
  thread_local bool is_done = false;
  if (is_done) return;
  is_done = true;
  cpu_set_t own, all;
  if (::sched_getaffinity(0, sizeof(own), &own) != 0 || CPU_COUNT(&own) != 1) return;
  if (::sched_getaffinity(::getpid(), sizeof(all), &all) != 0) return;  // of the first thread
  cpu_set_t others;
  CPU_XOR(&others, &all, &own);
  CPU_AND(&others, &others, &all);
  if (CPU_COUNT(&others) == 0) return;
  const int failed = ::io_uring_register_iowq_aff(&ring_, sizeof(others), &others);
  if (failed == -EINVAL) {
    is_done = false;
  } else if (failed != 0) {
    FILER_LOG_WARN("{}: flushes share the poller's processor and will be slow: {}", file_.path,
                   std::strerror(-failed));
  }
}

void FileQueue::Submit() {
  io_uring_submit(&ring_);
  KeepWorkersApart();
}

FileQueue::~FileQueue() {
  while (is_ring_open_ && submitted_ > 0) {
    io_uring_cqe* entry = nullptr;
    const int failed = io_uring_submit_and_wait(&ring_, 1);
    if (failed < 0 && failed != -EINTR && failed != -EAGAIN && failed != -EBUSY) break;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
      io_uring_cqe_seen(&ring_, entry);
      --submitted_;
    }
  }
  if (is_ring_open_) io_uring_queue_exit(&ring_);
  if (bounces_ != nullptr) ::munmap(bounces_, kBounceCount * kBounceBytes);
}

bool FileQueue::Queue(const BackendRequest& request) {
  if (free_operations_.empty()) return false;
  const std::uint32_t index = free_operations_.back();
  free_operations_.pop_back();
  operations_[index] = {request, 0, kNoBounce, 0, false};
  const bool is_transfer =
      request.operation == BackendOperation::kRead || request.operation == BackendOperation::kWrite;
  if (!is_transfer) {
    PrepareRange(index);
  } else if (IsDirectFit(request)) {
    PrepareDirect(index);
  } else {
    StartBounced(index);
  }
  if (io_uring_sq_ready(&ring_) >= batch_) {
    Submit();
    batch_ = std::min(2 * batch_, kBatchMax);
  }
  return true;
}

void FileQueue::Kick() {
  batch_ = 1;
  // A submission the kernel puts off (no memory, full completion ring) is tried again next round.
  if (io_uring_sq_ready(&ring_) > 0) Submit();
}

std::size_t FileQueue::Poll(std::span<BackendCompletion> completions) {
  std::size_t count = 0;
  io_uring_cqe* entry = nullptr;
  while (count < completions.size() && io_uring_peek_cqe(&ring_, &entry) == 0) {
    const auto index = static_cast<std::uint32_t>(entry->user_data);
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    --submitted_;
    const Step step = Advance(index, result);
    if (step == Step::kContinues) continue;
    completions[count++] = {operations_[index].request.cookie, step == Step::kDone};
    Release(index);
  }
  return count;
}

io_uring_sqe* FileQueue::NextEntry() {
  // One entry per operation at a time, and as many entries as operations.
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {  // entries of this round that completed already still hold their places
    Submit();
    entry = io_uring_get_sqe(&ring_);
  }
  FILER_ASSERT(entry != nullptr);
  ++submitted_;
  return entry;
}

bool FileQueue::IsDirectFit(const BackendRequest& request) const {
  if (file_.memory_align == 1 && file_.length_align == 1) return true;
  for (const iovec& segment : request.segments) {
    if (reinterpret_cast<std::uintptr_t>(segment.iov_base) % file_.memory_align != 0) return false;
    if (segment.iov_len % file_.length_align != 0) return false;
  }
  return true;
}

int FileQueue::FindRegistered(const iovec& segment) const {
  const auto* begin = static_cast<const std::byte*>(segment.iov_base);
  for (std::size_t i = 0; i < registered_.size(); ++i) {
    const auto* base = static_cast<const std::byte*>(registered_[i].iov_base);
    if (begin >= base && begin + segment.iov_len <= base + registered_[i].iov_len) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

void FileQueue::PrepareDirect(std::uint32_t index) {
  const BackendRequest& request = operations_[index].request;
  const bool is_read = request.operation == BackendOperation::kRead;
  const std::uint64_t offset = request.offset_bytes;
  io_uring_sqe* entry = NextEntry();
  const int registered = request.segments.size() == 1 ? FindRegistered(request.segments[0]) : -1;
  if (registered >= 0) {
    const iovec& segment = request.segments[0];
    const auto length = static_cast<unsigned>(segment.iov_len);
    if (is_read) {
      io_uring_prep_read_fixed(entry, 0, segment.iov_base, length, offset, registered);
    } else {
      io_uring_prep_write_fixed(entry, 0, segment.iov_base, length, offset, registered);
    }
  } else {
    const auto count = static_cast<unsigned>(request.segments.size());
    if (is_read) {
      io_uring_prep_readv(entry, 0, request.segments.data(), count, offset);
    } else {
      io_uring_prep_writev(entry, 0, request.segments.data(), count, offset);
    }
  }
  io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(entry, index);
}

void FileQueue::PrepareRange(std::uint32_t index) {
  const BackendRequest& request = operations_[index].request;
  io_uring_sqe* entry = NextEntry();
  if (request.operation == BackendOperation::kFlush) {
    io_uring_prep_fsync(entry, 0, IORING_FSYNC_DATASYNC);
  } else {
    const bool is_hole = request.operation == BackendOperation::kDiscard || request.may_unmap;
    const int mode = FALLOC_FL_KEEP_SIZE | (is_hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    io_uring_prep_fallocate(entry, 0, mode, static_cast<off_t>(request.offset_bytes),
                            static_cast<off_t>(request.length_bytes));
  }
  io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(entry, index);
}

void FileQueue::StartBounced(std::uint32_t index) {
  Operation& operation = operations_[index];
  operation.is_bounced = true;
  operation.done_bytes = 0;
  if (free_bounces_.empty()) {
    waiting_.push_back(index);
    return;
  }
  operation.bounce = free_bounces_.back();
  free_bounces_.pop_back();
  PrepareChunk(index);
}

void FileQueue::PrepareChunk(std::uint32_t index) {
  Operation& operation = operations_[index];
  const BackendRequest& request = operation.request;
  const std::uint64_t left = request.length_bytes - operation.done_bytes;
  operation.chunk_bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, kBounceBytes));
  std::byte* buffer = BounceBuffer(operation.bounce);
  const std::uint64_t offset = request.offset_bytes + operation.done_bytes;
  io_uring_sqe* entry = NextEntry();
  if (request.operation == BackendOperation::kRead) {
    io_uring_prep_read(entry, 0, buffer, operation.chunk_bytes, offset);
  } else {
    if (request.operation == BackendOperation::kWrite) {
      CopySegments(request.segments, operation.done_bytes, buffer, operation.chunk_bytes, false);
      copied_bytes_ += operation.chunk_bytes;
    } else {
      std::memset(buffer, 0, operation.chunk_bytes);
    }
    io_uring_prep_write(entry, 0, buffer, operation.chunk_bytes, offset);
  }
  io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(entry, index);
}

FileQueue::Step FileQueue::Advance(std::uint32_t index, int result) {
  Operation& operation = operations_[index];
  const BackendRequest& request = operation.request;
  if (operation.is_bounced) return AdvanceChunk(index, result);

  switch (request.operation) {
    case BackendOperation::kRead:
    case BackendOperation::kWrite: {
      if (result >= 0 && static_cast<std::uint64_t>(result) == request.length_bytes) {
        return Step::kDone;
      }
      // Cut short, or an alignment that this file system does not take: again, piecewise.
      const bool is_retried =
          result > 0 || result == -EINVAL || result == -EAGAIN || result == -EINTR;
      if (!is_retried) return Fail(result == 0 ? EIO : -result);
      StartBounced(index);
      return Step::kContinues;
    }
    case BackendOperation::kFlush:
      if (result == -EINTR || result == -EAGAIN) return Fail(-result);
      if (result != 0) file_.has_flush_failed.store(true, std::memory_order_relaxed);
      if (!file_.has_flush_failed.load(std::memory_order_relaxed)) return Step::kDone;
      return Fail(result == 0 ? EIO : -result);
    case BackendOperation::kDiscard:  // a hint: a file system without holes ignores it
      return result == 0 || result == -EOPNOTSUPP ? Step::kDone : Fail(-result);
    case BackendOperation::kWriteZeroes:
      if (result == 0) return Step::kDone;
      if (result != -EOPNOTSUPP) return Fail(-result);
      StartBounced(index);
      return Step::kContinues;
  }
  return Step::kFailed;
}

FileQueue::Step FileQueue::AdvanceChunk(std::uint32_t index, int result) {
  Operation& operation = operations_[index];
  if (result == -EAGAIN || result == -EINTR) {
    PrepareChunk(index);
    return Step::kContinues;
  }
  if (result <= 0) return Fail(result == 0 ? EIO : -result);  // 0: the file became shorter
  const auto moved = static_cast<std::uint32_t>(result);
  if (operation.request.operation == BackendOperation::kRead) {
    CopySegments(operation.request.segments, operation.done_bytes, BounceBuffer(operation.bounce),
                 moved, true);
    copied_bytes_ += moved;
  }
  operation.done_bytes += moved;
  if (operation.done_bytes == operation.request.length_bytes) return Step::kDone;
  PrepareChunk(index);
  return Step::kContinues;
}

FileQueue::Step FileQueue::Fail(int error) {
  if (error == ENOSPC || error == EDQUOT) {
    if (!file_.has_logged_no_space.exchange(true, std::memory_order_relaxed)) {
      FILER_LOG_ERROR("{}: no space left on the host; the guest sees I/O errors until there is",
                      file_.path);
    }
  } else if (error == EFAULT) {
    // The guest's memory is not there (any more): nothing is wrong with the file.
  } else if (!file_.has_logged_error.exchange(true, std::memory_order_relaxed)) {
    FILER_LOG_ERROR("{}: {}; the guest sees I/O errors (said once)", file_.path,
                    std::strerror(error));
  }
  return Step::kFailed;
}

void FileQueue::Release(std::uint32_t index) {
  const std::uint32_t bounce = operations_[index].bounce;
  free_operations_.push_back(index);
  if (bounce == kNoBounce) return;
  if (waiting_.empty()) {
    free_bounces_.push_back(bounce);
    return;
  }
  const std::uint32_t next = waiting_.front();
  waiting_.erase(waiting_.begin());
  operations_[next].bounce = bounce;
  PrepareChunk(next);
}

void FileQueue::SetMemory(std::span<const iovec> regions) {
  FILER_ASSERT(submitted_ == 0);
  if (!registered_.empty()) io_uring_unregister_buffers(&ring_);
  registered_.clear();
  std::vector<iovec> buffers;
  for (const iovec& region : regions) {
    if (!IsResident(region)) continue;
    auto* at = static_cast<std::byte*>(region.iov_base);
    for (std::size_t done = 0; done < region.iov_len; done += kRegisteredBytesMax) {
      buffers.push_back({at + done, std::min(kRegisteredBytesMax, region.iov_len - done)});
    }
  }
  if (buffers.empty() || buffers.size() > kRegisteredCountMax) return;
  const int failed =
      io_uring_register_buffers(&ring_, buffers.data(), static_cast<unsigned>(buffers.size()));
  if (failed == 0) registered_ = std::move(buffers);  // else: works the same, a little slower
}

}  // namespace filer::bridge
