#include "fsal/engine/device/block_device.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/units.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {

namespace {
constexpr std::uint32_t kPollCompletionsMax = 32;
constexpr std::uint32_t kEmptyPollsBeforeRelax = 50;

// Polls once; relaxes after many empty rounds.
class Poller {
 public:
  explicit Poller(BlockDevice& device) : device_(device) {}
  void Once() {
    if (device_.Poll(kPollCompletionsMax) != 0) {
      empty_polls_ = 0;
    } else if (++empty_polls_ >= kEmptyPollsBeforeRelax) {
      device_.Relax();
    }
  }

 private:
  BlockDevice& device_;
  std::uint32_t empty_polls_ = 0;
};

bool IsSectorAligned(std::uint64_t value) { return value % kSectorBytes == 0; }

Result<void> CheckSegments(const BlockRequest& request, const BufferPool& pool) {
  if (request.segments.empty() || request.segments.size() > kRequestSegmentsMax ||
      request.length_bytes > kRequestBytesMax) {
    return Errc::kInvalidArgument;
  }
  std::uint64_t sum = 0;
  for (const iovec& segment : request.segments) {
    if (segment.iov_len == 0 || segment.iov_len > kRequestBytesMax ||
        !IsSectorAligned(segment.iov_len)) {
      return Errc::kInvalidArgument;
    }
    const auto* first = static_cast<const std::byte*>(segment.iov_base);
    if (!pool.Contains(first) || !pool.Contains(first + segment.iov_len - 1)) {
      return Errc::kInvalidArgument;
    }
    sum += segment.iov_len;
  }
  if (sum != request.length_bytes) return Errc::kInvalidArgument;
  return Ok();
}

// Moves `length` bytes at `offset` in pieces through one pool buffer. `piece(bytes, done)` runs
// before a write, after a read.
template <typename Piece>
Result<void> TransferBlocking(BlockDevice& device, BlockOperation operation,
                              std::uint64_t offset_bytes, std::uint64_t length_bytes, Piece piece) {
  const auto buffer_bytes =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(length_bytes, 1, kRequestBytesMax));
  const BufferRef buffer = FILER_TRY(device.Pool().Allocate(buffer_bytes));
  for (std::uint64_t done = 0; done < length_bytes;) {
    const std::uint64_t now = std::min<std::uint64_t>(length_bytes - done, buffer.size());
    const std::span<std::byte> bytes = buffer.bytes().first(now);
    const std::array<iovec, 1> segments = {iovec{bytes.data(), now}};
    BlockRequest request;
    request.operation = operation;
    request.offset_bytes = offset_bytes + done;
    request.length_bytes = now;
    request.segments = segments;
    if (operation == BlockOperation::kWrite) piece(bytes, done);
    FILER_TRY(device.SubmitAndWait(request));
    if (operation == BlockOperation::kRead) piece(bytes, done);
    done += now;
  }
  return Ok();
}
}  // namespace

Result<void> CheckRequest(const BlockRequest& request, const DeviceInfo& info,
                          const BufferPool& pool) {
  if (request.operation != BlockOperation::kRead && info.is_read_only &&
      request.operation != BlockOperation::kFlush) {
    return Errc::kReadOnly;
  }
  if (request.operation == BlockOperation::kFlush) return Ok();
  if (!IsSectorAligned(request.offset_bytes) || !IsSectorAligned(request.length_bytes) ||
      request.length_bytes == 0) {
    return Errc::kInvalidArgument;
  }
  if (request.offset_bytes > info.size_bytes ||
      request.length_bytes > info.size_bytes - request.offset_bytes) {
    return Errc::kOutOfRange;
  }
  if (request.operation == BlockOperation::kRead || request.operation == BlockOperation::kWrite) {
    return CheckSegments(request, pool);
  }
  return Ok();
}

void FinishRequest(BlockRequest& request, bool is_ok, Errc status) {
  request.is_ok = is_ok;
  request.status = status;
  if (request.complete != nullptr) {
    request.complete(request);  // the request may be gone from here on
  } else {
    request.is_done.store(true, std::memory_order_release);  // pairs with SubmitAndWait
  }
}

Result<void> BlockDevice::SubmitWhenRoom(BlockRequest& request) {
  FILER_ASSERT(request.complete == nullptr);
  Poller poller(*this);
  request.is_ok = false;
  request.is_done.store(false, std::memory_order_relaxed);  // nobody else sees it before Submit
  for (;;) {
    auto submitted = Submit(request);
    if (submitted.has_value()) return Ok();
    if (!(submitted.error() == Errc::kWouldBlock)) return std::move(submitted).assume_error();
    poller.Once();
  }
}

Result<void> BlockDevice::Await(BlockRequest& request) {
  Poller poller(*this);
  while (!request.is_done.load(std::memory_order_acquire))
    poller.Once();  // pairs with FinishRequest
  if (!request.is_ok) return request.status;
  return Ok();
}

Result<void> BlockDevice::SubmitAndWait(BlockRequest& request) {
  FILER_TRY(SubmitWhenRoom(request));
  return Await(request);
}

Result<void> ReadBlocking(BlockDevice& device, std::uint64_t offset_bytes,
                          std::span<std::byte> bytes) {
  return TransferBlocking(device, BlockOperation::kRead, offset_bytes, bytes.size(),
                          [bytes](std::span<std::byte> piece, std::uint64_t done) {
                            std::memcpy(bytes.data() + done, piece.data(), piece.size());
                          });
}

Result<void> WriteBlocking(BlockDevice& device, std::uint64_t offset_bytes,
                           std::span<const std::byte> bytes) {
  return TransferBlocking(device, BlockOperation::kWrite, offset_bytes, bytes.size(),
                          [bytes](std::span<std::byte> piece, std::uint64_t done) {
                            std::memcpy(piece.data(), bytes.data() + done, piece.size());
                          });
}

Result<void> FlushBlocking(BlockDevice& device) {
  BlockRequest request;
  request.operation = BlockOperation::kFlush;
  return device.SubmitAndWait(request);
}

}  // namespace filer::engine
