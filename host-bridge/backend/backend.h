// backend.h: the seam between the bridge's request handling and what stores the bytes: file
// (io_uring), memory, null; later Ceph RBD.
//
// One Backend object per volume, shared by nobody; one BackendQueue per device queue. A queue is
// called by one poller at a time, the one that runs the device queue; it may go to another one with
// requests in flight. Nothing here blocks,
// allocates or logs per request. The segments are guest memory: the backend moves bytes, it never
// interprets them. Range, read-only and alignment were checked by the target before. `cookie` comes
// back unchanged in the completion.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace filer::bridge {

enum class BackendOperation : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

struct BackendRequest {
  BackendOperation operation;
  bool may_unmap = false;           // kWriteZeroes only (VIRTIO 1.2, 5.2.6)
  std::uint64_t offset_bytes;       // multiple of 512
  std::uint64_t length_bytes;       // multiple of 512
  std::span<const iovec> segments;  // kRead, kWrite; stay valid until the completion
  std::uint64_t cookie;
};

struct BackendCompletion {
  std::uint64_t cookie;
  bool is_ok;
};

struct BackendInfo {
  std::uint64_t size_bytes = 0;  // multiple of 512
  bool is_read_only = false;
  bool has_volatile_cache = true;
  bool can_discard = false;
  bool can_write_zeroes = false;
};

class BackendQueue {
 public:
  virtual ~BackendQueue() = default;  // waits for its requests in flight

  // Queues one request; false when it is full (the caller keeps the request and tries again after
  // Poll). May start it, and those before it.
  virtual bool Queue(const BackendRequest& request) = 0;
  // Starts what was queued and has not started: one system call at most. Called after each round.
  virtual void Kick() = 0;
  // Finished requests, up to the span's size. Never blocks.
  virtual std::size_t Poll(std::span<BackendCompletion> completions) = 0;
  // A descriptor that becomes readable when a completion is there, for sleeping; -1: completions
  // only ever come inside Poll.
  virtual int WaitFd() const = 0;
  // Guest memory that requests will point into (for registered buffers); called at each change of
  // the memory table, with no request in flight. May be ignored.
  virtual void SetMemory(std::span<const iovec> regions) = 0;
  // Bytes moved by the CPU instead of by DMA or the kernel's own transfer (bounce buffers). The
  // memory backend's transfer itself counts in TransferredByCpuBytes, apart.
  virtual std::uint64_t CopiedBytes() const = 0;
  // Payload moved by the CPU where a device would do it by DMA (the memory backend).
  virtual std::uint64_t TransferredByCpuBytes() const { return 0; }
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Any thread.
  virtual BackendInfo Info() const = 0;
  // Finds the size again, after somebody made the file larger. Any thread, also while requests are
  // in flight. Errors: kNotSupported (no file), kTooSmall (it became smaller: nothing changes),
  // kSystem.
  virtual Result<void> Remeasure() {
    return Error(Errc::kNotSupported, "only a volume in a file can grow");
  }
  // `depth_max`: requests in flight at most.
  virtual Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t depth_max) = 0;
};

struct FileBackendOptions {
  std::string path;  // regular file or block device
  bool is_read_only = false;
};
// Takes an exclusive lock on the file (shared when read-only). Errors, each with a one-line
// message: kNotFound, kBusy (locked by another process), kTooSmall, kSystem.
Result<std::unique_ptr<Backend>> OpenFileBackend(const FileBackendOptions& options);
Result<std::unique_ptr<Backend>> OpenMemoryBackend(
    std::uint64_t size_bytes);  // zero-filled; lost with the process
Result<std::unique_ptr<Backend>> OpenNullBackend(
    std::uint64_t size_bytes);  // writes vanish, reads leave zeroes out: contents undefined

}  // namespace filer::bridge
