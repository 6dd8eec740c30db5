#include "fsal/engine/fs/io_batch.h"

namespace filer::engine {
namespace {
constexpr int kEmptyPollsBeforeRelax = 50;

// Polls once; after many polls that brought nothing, lets the device wait.
void PollOrRelax(BlockDevice& device, int& empty_polls) {
  if (device.Poll(64) > 0) {
    empty_polls = 0;
  } else if (++empty_polls >= kEmptyPollsBeforeRelax) {
    device.Relax();
  }
}
}  // namespace

void IoBatch::Submit(BlockOperation operation, std::uint64_t offset_bytes,
                     std::vector<iovec> segments) {
  Entry& entry = entries_.emplace_back();
  entry.segments = std::move(segments);
  entry.request.operation = operation;
  entry.request.offset_bytes = offset_bytes;
  entry.request.segments = entry.segments;
  for (const iovec& segment : entry.segments) entry.request.length_bytes += segment.iov_len;
  int empty_polls = 0;
  while (true) {
    const Result<void> submitted = device_.Submit(entry.request);
    if (submitted.has_value()) {
      entry.is_started = true;
      return;
    }
    if (!(submitted.error() == Errc::kWouldBlock)) {
      if (!has_error_) error_ = submitted.error().code();
      has_error_ = true;
      return;
    }
    PollOrRelax(device_, empty_polls);
  }
}

Result<void> IoBatch::Wait() {
  int empty_polls = 0;
  for (Entry& entry : entries_) {
    if (!entry.is_started) continue;
    // Pairs with the device's release store, made after the completion ran.
    while (!entry.request.is_done.load(std::memory_order_acquire)) {
      PollOrRelax(device_, empty_polls);
    }
    if (!entry.request.is_ok && !has_error_) {
      error_ = entry.request.status;
      has_error_ = true;
    }
  }
  entries_.clear();
  if (has_error_) return error_;
  return Ok();
}

}  // namespace filer::engine
