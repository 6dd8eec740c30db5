// block_queue.h: one virtqueue of a block device at work: takes chains off the ring, hands requests
// to the backend, returns their status. One Round does a bounded amount of each; used elements of a
// round are published together.
//
// Invariants: in_flight() counts heads taken and not yet returned; the session unmaps memory only
// when it is 0. A queue whose driver broke the protocol takes nothing more, and finishes what it
// has. Threads: one at a time, the poller that runs it: its session's, or one it is lent to
// (desk.h).
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "host-bridge/backend/backend.h"
#include "host-bridge/target/block_request.h"
#include "host-bridge/target/counters.h"
#include "host-bridge/target/device_queue.h"
#include "host-bridge/target/inflight.h"
#include "host-bridge/target/latency.h"
#include "host-bridge/target/notifier.h"
#include "host-bridge/target/packed_device_queue.h"
#include "host-bridge/target/packed_inflight.h"
#include "host-bridge/target/rate_limit.h"

namespace filer::bridge {

// Whether a queue has its share in what its poller does: it did something in `worked` of the
// `busy_rounds` rounds in which any did.
inline bool IsBusyQueue(std::uint64_t worked, std::uint64_t busy_rounds) {
  return worked > 0 && worked * 4 >= busy_rounds;
}

class BlockQueue {
 public:
  BlockQueue(const AddressSpace& space, const BlockDevice& device, VolumeCounters& counters)
      : space_(space), device_(device), counters_(&counters) {}

  // Begins at `base`, with what the inflight table says first. `base`: the next avail index; of a
  // packed ring a position (packed_device_queue.h). `inflight_area`: of InflightTable for
  // `inflight_size` descriptors, or null.
  // Errors: the backend's.
  Result<void> Start(Backend& backend, const RingLayout& layout, std::uint16_t base,
                     std::byte* inflight_area, std::uint32_t inflight_size);
  // Ends; nothing may be in flight. Returns where the ring goes on, as `base` of Start.
  std::uint16_t Stop();
  // Before Stop, where the front end asks how far the ring came, or resets it.
  void ForgetInflight() {
    if (is_packed() && packed_inflight_.is_used()) packed_inflight_.Forget();
  }
  bool is_started() const { return split_.is_attached() || packed_.is_attached(); }
  bool is_packed() const { return packed_.is_attached(); }
  void Move(const RingLayout& layout) { is_packed() ? packed_.Move(layout) : split_.Move(layout); }
  void SetMemory(std::span<const iovec> regions) { backend_->SetMemory(regions); }

  void SetAccepting(bool is_accepting) { is_accepting_ = is_accepting; }
  // Rings for interrupts while it is armed; outlives the queue.
  void SetCall(Notifier* call) { call_ = call; }
  // The volume's, shared by its queues; outlives the queue. None: no limits.
  void SetLimiter(RateLimiter* limiter) { limiter_ = limiter; }
  // Where it counts: those of the poller that runs it, which outlive the queue.
  void SetCounters(VolumeCounters& counters) { counters_ = &counters; }
  void CountKicks(std::uint64_t count) { counters_->kicks.Add(count); }
  // True when it did something.
  bool Round();
  // Rounds that did something, since they were last taken.
  std::uint32_t worked_rounds() const { return worked_rounds_; }
  std::uint32_t TakeWorkedRounds() { return std::exchange(worked_rounds_, 0); }
  // What the last round took, in bytes of data and what counts as such.
  std::uint64_t round_work() const { return round_work_; }
  // Requests that the backend has. Heads still to be resubmitted do not touch memory yet.
  std::uint32_t in_flight() const {
    return in_flight_ - static_cast<std::uint32_t>(resubmit_.size());
  }
  RingFault fault() const { return fault_; }
  // The translation it waits for, if any.
  const IotlbMiss* miss() const { return has_miss_ ? &miss_ : nullptr; }
  void RetryMiss() { has_miss_ = false; }

  // Before sleeping: true when there is nothing to do and the driver will notify of new work.
  bool ArmAndCheckIdle();
  // Requests that the limits hold back: how long until they may be taken, else 0. After
  // ArmAndCheckIdle; the driver does not notify of them again.
  std::int64_t HeldBackNs() const { return is_held_back_ ? limiter_->WaitNs() : 0; }
  // A descriptor to sleep on while requests are in flight, or -1.
  int WaitFd() const { return backend_ ? backend_->WaitFd() : -1; }

 private:
  struct alignas(64) Slot {
    iovec few[2];  // segments of most requests; more lie in many_
    std::uint8_t* status_byte;
    std::uint32_t used_length;
    std::uint32_t segment_count;
    std::uint32_t bytes;
    BackendOperation operation;
    bool is_busy;
    bool is_flushing;           // a write whose flush is under way (write-through)
    std::uint64_t start_ticks;  // 0: not measured
  };

  // Ring: DeviceQueue or PackedDeviceQueue; told apart once per round.
  template <typename Ring>
  bool RoundOn(Ring& ring);
  template <typename Ring>
  bool MayTake(const Ring& ring);
  template <typename Ring>
  bool TakeRequests(Ring& ring);
  template <typename Ring>
  std::uint32_t RoundRequests(const Ring& ring);
  template <typename Ring>
  bool Take(Ring& ring, std::uint16_t head, bool is_again, std::uint64_t& limited_bytes);
  template <typename Ring>
  bool TakeSmall(Ring& ring, std::uint16_t head, std::uint64_t& limited_bytes);
  template <typename Ring>
  bool TakeOne(Ring& ring, std::uint16_t head, std::uint64_t& limited_bytes);
  void NoteTaken(DeviceQueue&, std::uint16_t head);
  void NoteTaken(PackedDeviceQueue& ring, std::uint16_t id);
  void Submit(std::uint16_t head, const ParsedRequest& request);
  bool Hand(const BackendRequest& request);
  void RetryDeferred();
  template <typename Ring>
  bool Reap(Ring& ring);
  template <typename Ring>
  void Complete(Ring& ring, std::uint16_t head, bool is_ok);
  void Return(DeviceQueue& ring, std::uint16_t head, std::uint32_t used_length);
  void Return(PackedDeviceQueue& ring, std::uint16_t id, std::uint32_t used_length);
  void Publish(DeviceQueue& ring);
  void Publish(PackedDeviceQueue& ring);
  template <typename Ring>
  bool ArmAndCheckIdleOn(Ring& ring);
  void Resubmit(std::uint32_t ring_size);
  void Interrupt();
  void Count(const Slot& slot, bool is_ok);
  void CountBackendBytes();
  std::span<const iovec> SegmentsOf(std::uint16_t head) const;

  const AddressView space_;
  const BlockDevice& device_;
  VolumeCounters* counters_;
  std::unique_ptr<BackendQueue> backend_;
  DeviceQueue split_;  // one of the two is attached
  PackedDeviceQueue packed_;
  InflightTable inflight_;
  PackedInflightTable packed_inflight_;
  Chain chain_;  // scratch of one request
  std::vector<Slot> slots_;
  std::unique_ptr<iovec[]> many_;
  std::vector<std::uint16_t> resubmit_;   // heads of the inflight table, from the back
  std::vector<BackendRequest> deferred_;  // the backend was full
  Notifier* call_ = nullptr;
  RateLimiter* limiter_ = nullptr;
  bool is_held_back_ = false;
  LatencySampler sampler_;
  std::uint64_t round_ticks_ = 0;   // of the round's requests
  std::uint64_t reap_ticks_ = 0;    // of the completions at hand; 0: not read yet
  bool is_interrupt_owed_ = false;  // the kernel could not send it
  std::uint32_t in_flight_ = 0;
  std::uint32_t worked_rounds_ = 0;
  std::uint64_t round_work_ = 0;
  std::uint32_t depth_of_late_ = 0;  // most requests that were published at once, slowly forgotten
  bool is_synchronous_ = false;      // the backend completes inside Poll
  bool is_accepting_ = true;
  bool has_miss_ = false;
  IotlbMiss miss_;
  RingFault fault_ = RingFault::kNone;
  std::uint64_t copied_seen_ = 0, transferred_seen_ = 0;
};

}  // namespace filer::bridge
