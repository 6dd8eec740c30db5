// file_queue.h: one io_uring on one volume file. Of what is queued in a poll round the first
// request starts at once, then batches of twice the size each: the device works on the first ones
// while the others are prepared, which takes the kernel a microsecond each. Requests that direct
// I/O cannot take as they are (memory not aligned, transfers cut short by the kernel) go piecewise
// through bounce buffers, which CopiedBytes counts. Threads: one at a time, not
// always the same.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host-bridge/backend/backend.h"

namespace filer::bridge {

// What the queues of one volume share; outlives them.
struct VolumeFile {
  int fd = -1;
  std::string path;
  std::atomic<std::uint64_t> size_bytes = 0;  // only grows
  bool is_read_only = false;
  std::uint32_t memory_align = 1;  // of each segment's address; 1 without direct I/O
  std::uint32_t length_align = 1;  // of each segment's length
  std::atomic<bool> has_logged_no_space = false;
  std::atomic<bool> has_logged_error = false;
  // The kernel tells of lost writes once, and forgets them: a flush that succeeds after one that
  // failed says nothing. So none does, until the process is started again.
  std::atomic<bool> has_flush_failed = false;
};

class FileQueue final : public BackendQueue {
 public:
  static Result<std::unique_ptr<FileQueue>> Create(VolumeFile& file, std::uint32_t depth_max);
  ~FileQueue() override;

  bool Queue(const BackendRequest& request) override;
  void Kick() override;
  std::size_t Poll(std::span<BackendCompletion> completions) override;
  int WaitFd() const override { return ring_.ring_fd; }
  void SetMemory(std::span<const iovec> regions) override;
  std::uint64_t CopiedBytes() const override { return copied_bytes_; }
  bool HasRegisteredBuffersForTest() const { return !registered_.empty(); }

 private:
  static constexpr unsigned kBatchMax = 8;  // the system call's part in a request is small then
  static constexpr std::uint32_t kBounceCount = 8;
  static constexpr std::size_t kBounceBytes = 256 << 10;
  static constexpr std::uint32_t kNoBounce = UINT32_MAX;

  struct Operation {
    BackendRequest request;
    std::uint64_t done_bytes;   // bounced operations only
    std::uint32_t bounce;       // index, or kNoBounce
    std::uint32_t chunk_bytes;  // in flight through the bounce buffer
    bool is_bounced;
  };

  FileQueue(VolumeFile& file, std::uint32_t depth_max);
  io_uring_sqe* NextEntry();
  void PrepareDirect(std::uint32_t index);
  void PrepareRange(std::uint32_t index);
  void StartBounced(std::uint32_t index);
  void PrepareChunk(std::uint32_t index);
  void Submit();
  void KeepWorkersApart();
  bool IsDirectFit(const BackendRequest& request) const;
  int FindRegistered(const iovec& segment) const;
  enum class Step { kContinues, kDone, kFailed };
  Step Advance(std::uint32_t index, int result);
  Step AdvanceChunk(std::uint32_t index, int result);
  Step Fail(int error);
  void Release(std::uint32_t index);
  std::byte* BounceBuffer(std::uint32_t bounce) const { return bounces_ + bounce * kBounceBytes; }

  VolumeFile& file_;
  io_uring ring_{};
  bool is_ring_open_ = false;
  std::vector<Operation> operations_;
  std::vector<std::uint32_t> free_operations_;
  std::vector<std::uint32_t> waiting_;  // for a bounce buffer; first come, first served
  std::vector<std::uint32_t> free_bounces_;
  std::byte* bounces_ = nullptr;
  std::vector<iovec> registered_;
  std::uint32_t submitted_ = 0;  // entries prepared whose completion has not come
  std::uint64_t copied_bytes_ = 0;
  unsigned batch_ = 1;  // entries that Queue starts together; 1 after Kick
};

}  // namespace filer::bridge
