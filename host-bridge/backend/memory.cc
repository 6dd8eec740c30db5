// memory.cc: a volume in the daemon's own memory: the transfer is one memcpy, which stands for the
// DMA of a device. Pages come on first write and go back on discard.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/units.h"
#include "host-bridge/backend/backend.h"

namespace filer::bridge {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

// Zeroes a range; whole pages go back to the system, which is quicker and bounded.
void ZeroRange(std::byte* base, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t first_page = RoundUp(offset, kPageBytes);
  const std::uint64_t end = offset + length;
  const std::uint64_t end_page = RoundDown(end, kPageBytes);
  if (first_page >= end_page) {
    std::memset(base + offset, 0, length);
    return;
  }
  std::memset(base + offset, 0, first_page - offset);
  if (::madvise(base + first_page, end_page - first_page, MADV_DONTNEED) != 0) {
    std::memset(base + first_page, 0, end_page - first_page);
  }
  std::memset(base + end_page, 0, end - end_page);
}

class MemoryQueue final : public BackendQueue {
 public:
  MemoryQueue(std::byte* base, std::uint32_t depth_max) : base_(base), cookies_(depth_max) {}

  bool Queue(const BackendRequest& request) override {
    if (count_ == cookies_.size()) return false;
    Transfer(request);
    cookies_[count_++] = request.cookie;
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    const std::size_t taken = std::min(completions.size(), count_);
    for (std::size_t i = 0; i < taken; ++i) completions[i] = {cookies_[i], true};
    count_ -= taken;
    if (count_ > 0)
      std::copy_n(cookies_.begin() + static_cast<std::ptrdiff_t>(taken), count_, cookies_.begin());
    return taken;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec>) override {}
  std::uint64_t CopiedBytes() const override { return 0; }
  std::uint64_t TransferredByCpuBytes() const override { return transferred_bytes_; }

 private:
  void Transfer(const BackendRequest& request) {
    std::byte* at = base_ + request.offset_bytes;
    switch (request.operation) {
      case BackendOperation::kRead:
        for (const iovec& segment : request.segments) {
          std::memcpy(segment.iov_base, at, segment.iov_len);
          at += segment.iov_len;
        }
        transferred_bytes_ += request.length_bytes;
        return;
      case BackendOperation::kWrite:
        for (const iovec& segment : request.segments) {
          std::memcpy(at, segment.iov_base, segment.iov_len);
          at += segment.iov_len;
        }
        transferred_bytes_ += request.length_bytes;
        return;
      case BackendOperation::kDiscard:
      case BackendOperation::kWriteZeroes:
        ZeroRange(base_, request.offset_bytes, request.length_bytes);
        return;
      case BackendOperation::kFlush:
        return;
    }
  }

  std::byte* base_;
  std::vector<std::uint64_t> cookies_;
  std::size_t count_ = 0;
  std::uint64_t transferred_bytes_ = 0;
};

class MemoryBackend final : public Backend {
 public:
  MemoryBackend(std::byte* base, std::uint64_t size_bytes) : base_(base), size_bytes_(size_bytes) {}
  ~MemoryBackend() override { ::munmap(base_, size_bytes_); }
  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = size_bytes_;
    info.has_volatile_cache = false;  // a flush adds nothing: all is lost with the process
    info.can_discard = true;
    info.can_write_zeroes = true;
    return info;
  }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t depth_max) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<MemoryQueue>(base_, depth_max));
  }

 private:
  std::byte* base_;
  std::uint64_t size_bytes_;
};

}  // namespace

Result<std::unique_ptr<Backend>> OpenMemoryBackend(std::uint64_t size_bytes) {
  if (size_bytes < 512 || size_bytes % 512 != 0) {
    return Error(Errc::kInvalidArgument, "memory volume: size must be a multiple of 512 bytes");
  }
  void* base = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return Error::System(errno, "mmap of a memory volume");
  return std::unique_ptr<Backend>(
      std::make_unique<MemoryBackend>(static_cast<std::byte*>(base), size_bytes));
}

}  // namespace filer::bridge
