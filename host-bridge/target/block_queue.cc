#include "host-bridge/target/block_queue.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/clock.h"
#include "base/units.h"

namespace filer::bridge {
namespace {

// A driver that leaves the last status there gets no line back that says the same.
void WriteStatus(std::uint8_t* status_byte, std::uint8_t status) {
  if (virtio::LoadOnce(*status_byte) != status) virtio::StoreOnce(*status_byte, status);
}

}  // namespace

Result<void> BlockQueue::Start(Backend& backend, const RingLayout& layout, std::uint16_t base,
                               std::byte* inflight_area, std::uint32_t inflight_size) {
  FILER_ASSERT(!is_started() && in_flight_ == 0);
  backend_ = FILER_TRY(backend.OpenQueue(layout.size));
  // Without a descriptor to wait for, completions come inside Poll.
  is_synchronous_ = backend_->WaitFd() < 0;
  slots_.assign(layout.size, Slot{});
  many_ = std::make_unique_for_overwrite<iovec[]>(std::size_t{layout.size} * kRequestSegmentsMax);
  deferred_.clear();
  deferred_.reserve(layout.size);
  has_miss_ = false;
  fault_ = RingFault::kNone;
  copied_seen_ = transferred_seen_ = 0;
  sampler_ = LatencySampler(backend_->WaitFd() >= 0);
  resubmit_.clear();
  if (layout.packed != nullptr) {
    packed_inflight_ = inflight_area == nullptr ? PackedInflightTable()
                                                : PackedInflightTable(inflight_area, inflight_size);
    // What was taken and not returned lies behind the position, and is popped again.
    packed_.Attach(layout,
                   packed_inflight_.is_used() ? packed_inflight_.Recover(layout, base) : base);
    return Ok();
  }
  inflight_ =
      inflight_area == nullptr ? InflightTable() : InflightTable(inflight_area, inflight_size);
  split_.Attach(layout, base);
  if (inflight_.is_used()) Resubmit(layout.size);
  return Ok();
}

void BlockQueue::Resubmit(std::uint32_t ring_size) {
  resubmit_ = inflight_.Recover(ring_size, split_.next_used());
  for (const std::uint16_t head : resubmit_) FILER_ASSERT(split_.Claim(head));
  // What was taken and not returned lies between the used and the avail index.
  if (!resubmit_.empty()) {
    split_.SetNextAvail(static_cast<std::uint16_t>(split_.next_used() + resubmit_.size()));
  }
  std::reverse(resubmit_.begin(), resubmit_.end());
  in_flight_ = static_cast<std::uint32_t>(resubmit_.size());
}

std::uint16_t BlockQueue::Stop() {
  FILER_ASSERT(in_flight_ == resubmit_.size());
  in_flight_ = 0;
  resubmit_.clear();
  const std::uint16_t base = is_packed() ? packed_.position() : split_.next_avail();
  split_.Detach();
  packed_.Detach();
  backend_.reset();
  return base;
}

bool BlockQueue::Round() {
  round_work_ = 0;
  if (is_packed()) return RoundOn(packed_);
  return split_.is_attached() && RoundOn(split_);
}

template <typename Ring>
bool BlockQueue::RoundOn(Ring& ring) {
  bool did_work = false;
  if (is_accepting_ && fault_ == RingFault::kNone && !has_miss_) did_work = TakeRequests(ring);
  if (in_flight_ > 0) {
    backend_->Kick();
    did_work |= Reap(ring);
    if (!deferred_.empty()) RetryDeferred();
  }
  if (ring.HasUnpublished()) {
    Publish(ring);
    did_work = true;
  }
  if (did_work) ++worked_rounds_;
  return did_work;
}

// Of one round; called when its first one was popped. What is pending at this moment says little:
// a front end that has just been given a round's completions is filling up again. How deep it has
// been of late says what it keeps in flight.
template <typename Ring>
std::uint32_t BlockQueue::RoundRequests(const Ring& ring) {
  if (!is_synchronous_) return kRoundRequestsMax;
  depth_of_late_ = std::max(ring.Pending() + 1, depth_of_late_ - (depth_of_late_ + 15) / 16);
  if (depth_of_late_ == 1) return 1;  // who sends one at a time waits for it
  return std::clamp(depth_of_late_ * 2 / 5, kSynchronousRoundRequestsMin,
                    kSynchronousRoundRequestsMax);
}

// Whether the volume's limits let anything through in this round.
template <typename Ring>
bool BlockQueue::MayTake(const Ring& ring) {
  is_held_back_ = false;
  if (limiter_ == nullptr || !limiter_->is_limited()) return true;
  if (limiter_->IsOpen(SystemClock().MonotonicNs())) return true;
  is_held_back_ = ring.HasAvailable() || !resubmit_.empty();
  if (is_held_back_) counters_->holds.Add(1);
  return false;
}

template <typename Ring>
bool BlockQueue::TakeRequests(Ring& ring) {
  ring.SuppressNotifications();
  if (!MayTake(ring)) return false;
  const bool is_limited = limiter_ != nullptr && limiter_->is_limited();
  std::uint32_t taken = 0;
  std::uint32_t round_requests = 1;
  while (taken < round_requests && round_work_ < kRoundBytesMax) {
    if (is_limited && !limiter_->HasTokens()) break;
    std::uint16_t head = 0;
    const bool is_again = !resubmit_.empty();
    if (is_again) {
      head = resubmit_.back();
    } else {
      const auto popped = ring.Pop(head, fault_);
      if (popped != DeviceQueue::PopResult::kHead) {
        ring.PrefetchNext(space_);
        break;
      }
      ++in_flight_;
      // Most likely where it was last time. A lone request's front end waits for that line itself.
      if (ring.Pending() > 0) __builtin_prefetch(slots_[head].status_byte);
      if (taken % DeviceQueue::kPrefetchCount == 0) ring.PrefetchFollowing(space_);
    }
    if (taken == 0) {
      round_requests = RoundRequests(ring);
      round_ticks_ = sampler_.RoundStart();
    }
    std::uint64_t limited_bytes = 0;
    if (!Take(ring, head, is_again, limited_bytes)) break;
    if (is_limited) limiter_->Take(limited_bytes);
    if (is_again) resubmit_.pop_back();
    if (++taken == 1 && round_work_ >= kLargeRequestBytes && round_requests > 1) {
      round_requests = std::max(round_requests, kLargeRoundRequestsMin);
    }
  }
  return taken > 0;
}

// False: it has to wait, or breaks the queue; it was not taken. `limited_bytes`: what it costs of
// the volume's bandwidth.
template <typename Ring>
bool BlockQueue::Take(Ring& ring, std::uint16_t head, bool is_again, std::uint64_t& limited_bytes) {
  if (TakeSmall(ring, head, limited_bytes)) return true;
  const auto read = ring.ReadChain(head, space_, chain_, miss_, fault_);
  has_miss_ = read == ChainResult::kMiss;
  round_work_ += chain_.list.steps * kTranslationStepBytes;
  if (read == ChainResult::kOk && TakeOne(ring, head, limited_bytes)) return true;
  if (!is_again) {
    ring.Unpop(head);
    --in_flight_;
  }
  return false;
}

// The common case in few steps: one valid read or write of one piece. False: it is something else,
// or not valid, and the whole way decides what; nothing was changed.
template <typename Ring>
bool BlockQueue::TakeSmall(Ring& ring, std::uint16_t head, std::uint64_t& limited_bytes) {
  SmallChain chain;
  if (!ring.ReadSmallChain(head, space_, chain)) return false;
  virtio::RequestHeader header;
  std::memcpy(&header, chain.header, sizeof(header));  // read once
  // No branch here tells reads from writes: in a mix of the two none can be foreseen.
  static_assert(virtio::kRequestIn == 0 && virtio::kRequestOut == 1);
  if (header.type > virtio::kRequestOut) return false;
  const bool is_write = header.type != 0;
  if ((is_write == chain.is_data_writable) | (is_write & device_.is_read_only)) return false;
  const std::uint64_t sector = header.sector;
  const std::uint64_t sector_count = chain.data.iov_len / kSectorBytes;
  if (chain.data.iov_len % kSectorBytes != 0 || chain.data.iov_len > kRequestBytesMax) return false;
  if (sector > device_.capacity_sectors || sector_count > device_.capacity_sectors - sector) {
    return false;
  }
  NoteTaken(ring, head);
  counters_->requests.Add(1);
  limited_bytes = chain.data.iov_len;
  round_work_ += limited_bytes;
  Slot& slot = slots_[head];
  slot.few[0] = chain.data;
  slot.segment_count = 1;
  slot.status_byte = chain.status_byte;
  slot.bytes = static_cast<std::uint32_t>(chain.data.iov_len);
  slot.used_length = slot.bytes * (1 - header.type) + 1;
  static_assert(BackendOperation{virtio::kRequestOut} == BackendOperation::kWrite);
  slot.operation = BackendOperation{static_cast<std::uint8_t>(header.type)};
  slot.is_busy = true;
  slot.is_flushing = false;
  slot.start_ticks = round_ticks_;
  BackendRequest request{};
  request.operation = slot.operation;
  request.offset_bytes = sector * kSectorBytes;
  request.length_bytes = chain.data.iov_len;
  request.segments = {slot.few, 1};
  request.cookie = head;
  if (!Hand(request)) deferred_.push_back(request);
  return true;
}

// False: the request breaks the protocol, and the queue with it.
template <typename Ring>
bool BlockQueue::TakeOne(Ring& ring, std::uint16_t head, std::uint64_t& limited_bytes) {
  ParsedRequest request;
  fault_ = ParseBlockRequest(chain_, device_, request);
  if (fault_ != RingFault::kNone) return false;
  NoteTaken(ring, head);
  counters_->requests.Add(1);
  limited_bytes = chain_.readable_bytes + chain_.writable_bytes;
  round_work_ += limited_bytes;
  // What makes the volume write as much as a WRITE costs as much.
  if (!request.is_immediate) limited_bytes = std::max(limited_bytes, request.backend.length_bytes);
  if (request.is_immediate) {
    if (request.status != virtio::kStatusOk) counters_->errors.Add(1);
    WriteStatus(request.status_byte, request.status);
    Return(ring, head, request.used_length);
  } else {
    Submit(head, request);
  }
  return true;
}

void BlockQueue::NoteTaken(DeviceQueue&, std::uint16_t head) {
  if (inflight_.is_used()) inflight_.Take(head);
}

void BlockQueue::NoteTaken(PackedDeviceQueue& ring, std::uint16_t id) {
  if (packed_inflight_.is_used()) packed_inflight_.Take(ring.PlaceOf(id), ring.CountOf(id));
}

std::span<const iovec> BlockQueue::SegmentsOf(std::uint16_t head) const {
  const Slot& slot = slots_[head];
  const iovec* first = slot.segment_count <= std::size(slot.few)
                           ? slot.few
                           : &many_[std::size_t{head} * kRequestSegmentsMax];
  return {first, slot.segment_count};
}

void BlockQueue::Submit(std::uint16_t head, const ParsedRequest& request) {
  Slot& slot = slots_[head];
  const auto pieces = request.backend.segments;
  slot.segment_count = static_cast<std::uint32_t>(pieces.size());
  iovec* into = pieces.size() <= std::size(slot.few)
                    ? slot.few
                    : &many_[std::size_t{head} * kRequestSegmentsMax];
  for (std::size_t i = 0; i < pieces.size(); ++i) into[i] = pieces[i];
  slot.status_byte = request.status_byte;
  slot.used_length = request.used_length;
  slot.bytes = static_cast<std::uint32_t>(request.backend.length_bytes);
  slot.operation = request.backend.operation;
  slot.is_busy = true;
  slot.is_flushing = false;
  slot.start_ticks = round_ticks_;

  BackendRequest backend_request = request.backend;
  backend_request.segments = {into, pieces.size()};
  backend_request.cookie = head;
  if (!Hand(backend_request)) deferred_.push_back(backend_request);
}

bool BlockQueue::Hand(const BackendRequest& request) { return backend_->Queue(request); }

void BlockQueue::RetryDeferred() {
  std::size_t handed = 0;
  while (handed < deferred_.size() && Hand(deferred_[handed])) ++handed;
  deferred_.erase(deferred_.begin(), deferred_.begin() + static_cast<std::ptrdiff_t>(handed));
}

template <typename Ring>
bool BlockQueue::Reap(Ring& ring) {
  std::array<BackendCompletion, 64> completions;
  bool did_work = false;
  for (std::uint32_t taken = 0; taken < 2 * kRoundRequestsMax;) {
    const std::size_t count = backend_->Poll(completions);
    reap_ticks_ = 0;
    for (std::size_t i = 0; i < count; ++i) {
      Complete(ring, static_cast<std::uint16_t>(completions[i].cookie), completions[i].is_ok);
    }
    did_work |= count > 0;
    taken += static_cast<std::uint32_t>(count);
    if (count < completions.size()) break;
  }
  return did_work;
}

template <typename Ring>
void BlockQueue::Complete(Ring& ring, std::uint16_t head, bool is_ok) {
  FILER_ASSERT(head < slots_.size() && slots_[head].is_busy);
  Slot& slot = slots_[head];
  const auto is_write = [&slot] {
    return slot.operation == BackendOperation::kWrite ||
           slot.operation == BackendOperation::kWriteZeroes;
  };
  if (device_.needs_write_through && is_ok && !slot.is_flushing && is_write()) {
    slot.is_flushing = true;
    BackendRequest flush{};
    flush.operation = BackendOperation::kFlush;
    flush.cookie = head;
    if (!Hand(flush)) deferred_.push_back(flush);
    return;
  }
  slot.is_busy = false;
  Count(slot, is_ok);
  std::uint32_t used_length = slot.used_length;
  if (!is_ok) {
    counters_->errors.Add(1);
    const bool is_read = slot.operation == BackendOperation::kRead;
    if (is_read && slot.bytes <= kZeroFillBytesMax)
      ZeroFill(SegmentsOf(head));
    else if (is_read)
      used_length = 0;
  }
  WriteStatus(slot.status_byte, is_ok ? virtio::kStatusOk : virtio::kStatusIoError);
  Return(ring, head, used_length);
}

void BlockQueue::Count(const Slot& slot, bool is_ok) {
  if (slot.start_ticks != 0) {
    if (reap_ticks_ == 0) reap_ticks_ = ReadTicks();
    // The counters of two processors may differ a little.
    const std::uint64_t ticks = reap_ticks_ > slot.start_ticks ? reap_ticks_ - slot.start_ticks : 0;
    counters_->latencies.by_operation[static_cast<std::size_t>(slot.operation)].Add(ticks);
  }
  OperationCounters& of_kind = counters_->Of(slot.operation);
  of_kind.requests.Add(1);
  if (is_ok) of_kind.bytes.Add(slot.bytes);
}

void BlockQueue::Return(DeviceQueue& ring, std::uint16_t head, std::uint32_t used_length) {
  ring.PushUsed(head, used_length);
  if (inflight_.is_used()) inflight_.AddToBatch(head);
  --in_flight_;
}

void BlockQueue::Return(PackedDeviceQueue& ring, std::uint16_t id, std::uint32_t used_length) {
  ring.PushUsed(id, used_length);
  --in_flight_;
}

void BlockQueue::Publish(DeviceQueue& ring) {
  const bool is_interrupt_wanted = ring.Publish();
  if (inflight_.is_used()) inflight_.FinishBatch(ring.next_used());
  CountBackendBytes();
  if (is_interrupt_wanted) Interrupt();
}

void BlockQueue::Publish(PackedDeviceQueue& ring) {
  const bool is_interrupt_wanted = ring.Publish();
  if (packed_inflight_.is_used()) packed_inflight_.Finish(ring.position());
  CountBackendBytes();
  if (is_interrupt_wanted) Interrupt();
}

void BlockQueue::Interrupt() {
  is_interrupt_owed_ = false;
  if (call_ == nullptr || !call_->is_armed()) return;
  is_interrupt_owed_ = !call_->Ring();
  if (!is_interrupt_owed_) counters_->interrupts.Add(1);
}

void BlockQueue::CountBackendBytes() {
  const std::uint64_t copied = backend_->CopiedBytes();
  const std::uint64_t transferred = backend_->TransferredByCpuBytes();
  if (copied != copied_seen_) counters_->copied_bytes.Add(copied - copied_seen_);
  if (transferred != transferred_seen_)
    counters_->transferred_bytes.Add(transferred - transferred_seen_);
  copied_seen_ = copied;
  transferred_seen_ = transferred;
}

bool BlockQueue::ArmAndCheckIdle() {
  if (is_packed()) return ArmAndCheckIdleOn(packed_);
  return !split_.is_attached() || ArmAndCheckIdleOn(split_);
}

template <typename Ring>
bool BlockQueue::ArmAndCheckIdleOn(Ring& ring) {
  if (is_interrupt_owed_) Interrupt();
  if (is_interrupt_owed_) return false;
  // Completions that no descriptor announces come only by polling.
  if (in_flight_ > resubmit_.size() && WaitFd() < 0) return false;
  if (!deferred_.empty()) return false;
  if (!is_accepting_ || fault_ != RingFault::kNone || has_miss_) {
    is_held_back_ = false;
    return true;
  }
  if (!MayTake(ring) && is_held_back_) return true;  // woken by the clock, not by the driver
  ring.ArmNotifications();
  return !ring.HasAvailable() && resubmit_.empty();
}

}  // namespace filer::bridge
