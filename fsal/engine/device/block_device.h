// block_device.h: the seam under the engine. A volume as an array of bytes with asynchronous
// requests. Implementations: the bridge's initiator (bridge_device.h), a file of this machine
// (file_device.h, for tools), memory and the simulator (for tests).
//
// Ownership: a Request belongs to the caller and must stay in place until its completion was
// called. Buffers come from the
//   device's own pool (BufferPool), because only that memory can be reached by the other end of the
//   bridge.
// Threads: every method may be called from any thread. Completions run inside Poll, on the thread
// that called it, with no lock
//   of the device held; a completion may submit, and must not block.
// Whoever waits, polls: nothing completes unless somebody calls Poll (or WaitFor, which does).
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace filer::engine {

class BufferPool;

inline constexpr std::uint32_t kRequestSegmentsMax = 64;
inline constexpr std::uint32_t kRequestBytesMax =
    1 << 20;  // longer transfers are split by the caller

enum class BlockOperation : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

struct BlockRequest {
  BlockOperation operation = BlockOperation::kRead;
  std::uint64_t offset_bytes = 0;  // multiple of 512; ignored by kFlush
  std::uint64_t length_bytes = 0;  // multiple of 512; sum of the segments for kRead and kWrite
  std::span<const iovec>
      segments;  // from the device's pool; each a multiple of 512 bytes; kRead and kWrite only
  // Called once, from Poll. The status is valid then.
  void (*complete)(BlockRequest& request) = nullptr;
  void* context = nullptr;         // the caller's
  Errc status = Errc::kCancelled;  // valid once is_ok is
  bool is_ok = false;
  // Set with release order by the device, only if `complete` is null. A request with `complete` may
  // be destroyed inside it, so the device touches nothing of it afterwards.
  std::atomic<bool> is_done{false};
};

struct DeviceInfo {
  std::uint64_t size_bytes = 0;  // of the whole device; multiple of 4096
  bool is_read_only = false;
  bool has_volatile_cache = true;  // writes are durable only after kFlush
  bool can_discard = false;
  std::uint32_t depth_max = 0;  // requests worth having in flight
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;  // no request may be in flight

  virtual DeviceInfo Info() const = 0;
  virtual BufferPool& Pool() = 0;

  // Starts a request. Never blocks, never calls `complete` itself. Errors: kWouldBlock (the queue
  // is full: Poll and try again), kInvalidArgument, kReadOnly, kOutOfRange, kDeviceGone. After an
  // error the request was not started.
  virtual Result<void> Submit(BlockRequest& request) = 0;

  // Runs up to `completions_max` completions; returns how many. Never blocks.
  virtual std::uint32_t Poll(std::uint32_t completions_max) = 0;

  // A hint after several empty Polls: may yield or sleep until a completion is likely (bounded, at
  // most ~1 ms).
  virtual void Relax() = 0;

  // For requests whose `complete` is null; both poll. Submits, waiting while the queue is full.
  // Errors: as Submit, but kWouldBlock. Blocking.
  Result<void> SubmitWhenRoom(BlockRequest& request);
  // Until it is done; returns the request's own result. Blocking.
  Result<void> Await(BlockRequest& request);
  // One after the other. Blocking.
  Result<void> SubmitAndWait(BlockRequest& request);
};

// For implementations: the checks every device makes in Submit (errors as there), and the end of a
// request.
Result<void> CheckRequest(const BlockRequest& request, const DeviceInfo& info,
                          const BufferPool& pool);
void FinishRequest(BlockRequest& request, bool is_ok, Errc status);

// Blocking conveniences over pool memory, for set-up code; not for the data path. `bytes` may be
// any memory (copied through a pool buffer). Offsets and lengths: multiples of 512. Errors: the
// device's.
Result<void> ReadBlocking(BlockDevice& device, std::uint64_t offset_bytes,
                          std::span<std::byte> bytes);
Result<void> WriteBlocking(BlockDevice& device, std::uint64_t offset_bytes,
                           std::span<const std::byte> bytes);
Result<void> FlushBlocking(BlockDevice& device);

}  // namespace filer::engine
