// checking_backend.h: a backend that believes nothing: each request must lie in the volume, and
// each of its segments in guest memory, or the process aborts. Completes what it has in any order,
// when told to, so that requests stay in flight while messages come.
// Threads: one.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "host-bridge/backend/backend.h"
#include "tests/fuzz/fuzz_input.h"

namespace filer::fuzz {

// What backend and queues share; outlives them.
struct CheckingState {
  bridge::BackendInfo info;
  std::vector<iovec> memory;    // where segments may lie; empty: anywhere, they are only touched
  std::uint32_t capacity = 64;  // requests that a queue takes before it says that it is full
  bool is_holding = false;      // completes nothing
  int wait_fd = -1;             // -1: completions come inside Poll only
  std::uint8_t order = 0;       // of completions, and whether they are good
};

class CheckingQueue final : public bridge::BackendQueue {
 public:
  CheckingQueue(CheckingState& state, std::uint32_t depth_max) : state_(state), depth_(depth_max) {}
  ~CheckingQueue() override { FILER_ASSERT(held_.empty()); }

  bool Queue(const bridge::BackendRequest& request) override {
    FILER_ASSERT(held_.size() < depth_);
    if (held_.size() >= state_.capacity) return false;
    CheckRange(request);
    const bool is_transfer = request.operation == bridge::BackendOperation::kRead ||
                             request.operation == bridge::BackendOperation::kWrite;
    if (is_transfer) CheckSegments(request);
    held_.push_back(request);
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<bridge::BackendCompletion> completions) override {
    std::size_t count = 0;
    while (!state_.is_holding && !held_.empty() && count < completions.size()) {
      const std::size_t at = state_.order % held_.size();
      const bool is_ok = (state_.order & 0x80) == 0;
      Touch(held_[at]);
      completions[count++] = {held_[at].cookie, is_ok};
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    return count;
  }
  int WaitFd() const override { return state_.wait_fd; }
  void SetMemory(std::span<const iovec>) override { FILER_ASSERT(held_.empty()); }
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  void CheckRange(const bridge::BackendRequest& request) const {
    const std::uint64_t size = state_.info.size_bytes;
    FILER_ASSERT(request.offset_bytes % 512 == 0 && request.length_bytes % 512 == 0);
    FILER_ASSERT(request.offset_bytes <= size &&
                 request.length_bytes <= size - request.offset_bytes);
    const bool is_change = request.operation != bridge::BackendOperation::kRead &&
                           request.operation != bridge::BackendOperation::kFlush;
    FILER_ASSERT(!is_change || !state_.info.is_read_only);
  }
  void CheckSegments(const bridge::BackendRequest& request) const {
    std::uint64_t bytes = 0;
    for (const iovec& segment : request.segments) {
      FILER_ASSERT(segment.iov_len > 0);
      bytes += segment.iov_len;
      FILER_ASSERT(state_.memory.empty() || IsInMemory(segment));
    }
    FILER_ASSERT(bytes == request.length_bytes && bytes > 0);
  }
  // Neighbouring mappings may make one segment: every byte of it must be in one of them.
  bool IsInMemory(const iovec& segment) const {
    const auto* at = static_cast<const std::byte*>(segment.iov_base);
    const auto* const end = at + segment.iov_len;
    while (at != end) {
      const std::byte* next = nullptr;
      for (const iovec& region : state_.memory) {
        const auto* base = static_cast<const std::byte*>(region.iov_base);
        if (at >= base && at < base + region.iov_len) next = base + region.iov_len;
      }
      if (next == nullptr) return false;
      at = std::min(end, next);
    }
    return true;
  }
  static void Touch(const bridge::BackendRequest& request) {
    if (request.operation == bridge::BackendOperation::kRead) {
      for (const iovec& segment : request.segments)
        std::memset(segment.iov_base, 0x5a, segment.iov_len);
    } else if (request.operation == bridge::BackendOperation::kWrite) {
      for (const iovec& segment : request.segments) {
        const auto* bytes = static_cast<const volatile std::byte*>(segment.iov_base);
        static_cast<void>(bytes[0]);
        static_cast<void>(bytes[segment.iov_len - 1]);
      }
    }
  }

  CheckingState& state_;
  std::size_t depth_;
  std::vector<bridge::BackendRequest> held_;
};

class CheckingBackend final : public bridge::Backend {
 public:
  explicit CheckingBackend(CheckingState& state) : state_(state) {}
  bridge::BackendInfo Info() const override { return state_.info; }
  Result<std::unique_ptr<bridge::BackendQueue>> OpenQueue(std::uint32_t depth_max) override {
    return std::unique_ptr<bridge::BackendQueue>(
        std::make_unique<CheckingQueue>(state_, depth_max));
  }

 private:
  CheckingState& state_;
};

}  // namespace filer::fuzz
