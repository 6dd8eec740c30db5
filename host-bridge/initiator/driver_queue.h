// driver_queue.h: the driver's side of one virtqueue of a virtio-blk device (VIRTIO 1.2, 2.7, 2.8
// and 5.2), polled; split or packed.
//
// Layout: descriptor table, avail and used ring, one RequestShared of two cache lines per
// descriptor, and one large indirect table per descriptor where the device takes them. A request is
// known by its head descriptor. The device may write all of that memory at any time: everything
// that this side relies on (cookies, chains, busy bits, indexes) is kept in private memory; what is
// read from the rings is checked.
//
// Cache lines are what a request costs. A transfer of one piece has its whole chain in one line
// that the device reads, its status in one that the device writes. Heads are handed out in turn, so
// that with a device that completes in order descriptor table and avail ring hold the same values
// for ever: what is there already is not written, and stays in both caches. A transfer that is
// alone in the queue shares its line with the avail index: one line goes there, one comes back.
//
// Threads: as DiskQueue. A gate lets the transport rebuild the ring after the device went away
// (Restart, Break) and others read counters; the queue's user pays no locked instruction for it.
// Nothing is allocated per request.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/thread_annotations.h"
#include "host-bridge/initiator/address_map.h"
#include "host-bridge/initiator/initiator.h"
#include "host-bridge/initiator/packed_driver_ring.h"
#include "host-bridge/initiator/queue_gate.h"
#include "host-bridge/virtio/block.h"
#include "host-bridge/virtio/ring.h"

namespace filer::bridge {

class DmaMemory;

// What a queue needs from its transport. Called inside the queue's gate: must not call back.
class QueueEvents {
 public:
  virtual ~QueueEvents() = default;
  virtual void RingDoorbell(std::uint32_t queue_index) = 0;
  // The device broke the protocol: the disk is over.
  virtual void ProtocolBroken(std::uint32_t queue_index, const Error& error) = 0;
};

struct DriverQueueOptions {
  std::uint32_t queue_index = 0;
  std::uint32_t queue_size = 256;   // power of two
  std::uint32_t segments_max = 64;  // per request, after splitting at page borders
  std::uint32_t segment_bytes_max = UINT32_MAX;
  bool has_indirect = true;
  bool has_event_index = true;
  bool is_packed = false;
};

// Addresses for the device. Of a packed ring: the ring, the driver's and the device's event area.
struct RingAddresses {
  std::uint64_t descriptors;
  std::uint64_t avail;
  std::uint64_t used;
};

class DriverQueue final : public DiskQueue {
 public:
  // Upper bound of what the constructor carves.
  static std::uint64_t MemoryBytes(const DriverQueueOptions& options);
  // `memory`, `map` and `events` must outlive the queue.
  DriverQueue(const DriverQueueOptions& options, DmaMemory& memory, const AddressMap& map,
              QueueEvents& events);
  ~DriverQueue() override;

  Result<void> Prepare(const DiskRequest& request) override;
  void Publish() override;
  std::size_t Poll(std::span<DiskCompletion> completions) override;
  std::uint32_t InFlight() const override;

  RingAddresses Addresses() const;
  // For the transport: the device was lost with requests in flight. What it had completed is kept
  // for Poll, everything else is put into fresh rings (both indexes 0), published, in the order of
  // its submission. Returns how many those are. No device may use the rings meanwhile.
  std::uint32_t Restart() FILER_EXCLUDES(gate_);
  // All in flight complete with kDeviceGone, no request is taken any more.
  void Break() FILER_EXCLUDES(gate_);
  DiskCounters Counters() const FILER_EXCLUDES(gate_);

  // Rings' memory, for a fake device in tests.
  struct RingsForTest {
    virtio::Descriptor* descriptors;
    virtio::AvailRing* avail;
    virtio::UsedRing* used;
  };
  RingsForTest GetRingsForTest() { return {descriptors_, avail_, used_}; }

 private:
  // What the device reads of a transfer of one piece. The first and the last descriptor stay as
  // they are from one transfer to the next.
  struct RequestLine {
    virtio::Descriptor table[3];  // header, data, status
    virtio::RequestHeader header;
  };
  static_assert(sizeof(RequestLine) == 64);
  struct alignas(64) StatusLine {
    std::uint8_t status;  // of the last request, unless that failed
    virtio::RangeSegment range;
  };
  // What the device reads and writes beside the data: a line of each.
  struct alignas(128) RequestShared {
    RequestLine line;
    StatusLine answer;
  };
  static_assert(sizeof(RequestShared) == 128 && offsetof(RequestShared, answer) == 64);
  static constexpr std::uint64_t kStatusOffset = offsetof(RequestShared, answer);
  static constexpr std::uint64_t kRangeOffset = kStatusOffset + offsetof(StatusLine, range);

  // The avail ring, and before it the line of a transfer that is alone in the queue: what changes
  // in that from one transfer to the next lies in one cache line with the avail index.
  struct alignas(64) LoneAvail {
    std::byte unused[48];
    RequestLine line;
    std::byte room[12];
    virtio::AvailRing ring;
  };
  static_assert(offsetof(LoneAvail, line.table[1]) == 64 && offsetof(LoneAvail, ring) == 124);
  static_assert(offsetof(LoneAvail, ring.index) / 64 == offsetof(LoneAvail, line.header) / 64);

  // One per descriptor, valid for heads. Private.
  struct alignas(64) RequestPrivate {
    std::uint64_t cookie = 0;
    std::uint64_t sequence = 0;
    std::uint64_t shared_address = 0;
    std::uint64_t data_bytes = 0;
    RequestShared* shared = nullptr;
    StatusLine* answer = nullptr;     // of the request in flight: in `shared`, or the lone one's
    std::uint64_t table_address = 0;  // that its descriptor points to; 0: none
    std::uint32_t table_bytes = 0;
    std::uint32_t writable_bytes = 0;  // that the device may report as written
    std::uint16_t chain_length = 0;    // descriptors of the main table
    DiskOperation operation = DiskOperation::kRead;
    bool is_busy = false;
  };

  // An entry of an indirect table, or of a chain. A packed ring's has id and flags where a split
  // one's has flags and next, and no links.
  virtio::Descriptor Entry(std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                           std::uint16_t next) const;
  void InitLine(RequestLine& line, std::uint64_t address, std::uint64_t status_address) const;
  void InitShared(RequestPrivate& own) FILER_REQUIRES(gate_);
  void InitLone() FILER_REQUIRES(gate_);
  void WriteLone() FILER_REQUIRES(gate_);
  bool PlaceSmall(const DiskRequest& request, std::uint16_t head) FILER_REQUIRES(gate_);
  std::uint32_t FreeCount() const FILER_REQUIRES(gate_) {
    return static_cast<std::uint32_t>(freed_ - taken_);
  }
  std::uint16_t NextFree() const FILER_REQUIRES(gate_) { return free_[taken_ & mask_]; }
  std::uint16_t TakeFree() FILER_REQUIRES(gate_) { return free_[taken_++ & mask_]; }
  void GiveFree(std::uint16_t descriptor) FILER_REQUIRES(gate_) {
    free_[freed_++ & mask_] = descriptor;
  }
  Result<std::uint32_t> Build(const DiskRequest& request, std::uint16_t head,
                              std::span<virtio::Descriptor> table) FILER_REQUIRES(gate_);
  Result<std::uint32_t> BuildData(const DiskRequest& request, std::span<virtio::Descriptor> table)
      FILER_REQUIRES(gate_);
  Result<std::uint16_t> Place(const DiskRequest& request) FILER_REQUIRES(gate_);
  Result<std::uint16_t> PlaceChain(const DiskRequest& request, std::uint16_t head)
      FILER_REQUIRES(gate_);
  void PointTo(std::uint16_t head, std::uint64_t table_address, std::uint32_t table_bytes)
      FILER_REQUIRES(gate_);
  void Offer(std::uint16_t head) FILER_REQUIRES(gate_);
  bool PublishSplit(std::uint16_t before) FILER_REQUIRES(gate_);
  void ResetRing() FILER_REQUIRES(gate_);
  DiskCompletion Finish(std::uint16_t head) FILER_REQUIRES(gate_);
  // Next entry of the used ring, checked; an error when it is not to be believed.
  std::optional<Error> TakeUsed(std::uint16_t& head) FILER_REQUIRES(gate_);
  std::optional<Error> CheckUsed(std::uint32_t id, std::uint32_t length) const
      FILER_REQUIRES(gate_);
  std::optional<Error> PendingUsed(std::uint16_t& pending) const FILER_REQUIRES(gate_);
  void PrefetchStatus(std::uint16_t pending) const FILER_REQUIRES(gate_);
  void Fail(const Error& error) FILER_REQUIRES(gate_);
  void FailAllInFlight() FILER_REQUIRES(gate_);
  void QuietInterrupts() FILER_REQUIRES(gate_);
  std::vector<std::uint16_t> BusyHeadsInOrder() const FILER_REQUIRES(gate_);

  const DriverQueueOptions options_;
  const AddressMap& map_;
  QueueEvents& events_;
  const std::span<std::byte> arena_;

  virtio::Descriptor* descriptors_ = nullptr;
  LoneAvail* lone_ = nullptr;
  StatusLine* lone_answer_ = nullptr;
  std::uint64_t lone_address_ = 0, lone_status_address_ = 0;
  virtio::AvailRing* avail_ = nullptr;  // in lone_
  virtio::UsedRing* used_ = nullptr;
  std::vector<virtio::Descriptor*> tables_;  // by descriptor; empty without indirect

  const std::uint32_t mask_;  // queue_size - 1

  mutable QueueGate gate_;
  // In the memory of a split ring's parts: descriptors_, and the first words of avail_ and used_.
  std::optional<PackedDriverRing> packed_ FILER_GUARDED_BY(gate_);
  std::vector<virtio::Descriptor> chains_
      FILER_GUARDED_BY(gate_);                                     // packed without indirect: by id
  std::vector<RequestPrivate> requests_ FILER_GUARDED_BY(gate_);   // by descriptor
  std::vector<std::uint16_t> chain_next_ FILER_GUARDED_BY(gate_);  // our own copy of the chains
  std::vector<std::uint16_t> free_ FILER_GUARDED_BY(gate_);        // a ring of descriptors
  std::uint64_t freed_ FILER_GUARDED_BY(gate_) = 0, taken_ FILER_GUARDED_BY(gate_) = 0;
  std::vector<std::uint16_t> avail_heads_ FILER_GUARDED_BY(gate_);  // our own copy of that ring
  std::vector<virtio::Descriptor> scratch_ FILER_GUARDED_BY(gate_);
  RequestLine lone_line_ FILER_GUARDED_BY(gate_) = {};    // our own copy
  bool must_write_lone_ FILER_GUARDED_BY(gate_) = false;  // before the index that publishes it
  std::vector<DiskCompletion> finished_ FILER_GUARDED_BY(gate_);  // kept by Restart, Break
  std::size_t finished_first_ FILER_GUARDED_BY(gate_) = 0;
  std::uint64_t next_sequence_ FILER_GUARDED_BY(gate_) = 0;
  std::uint32_t in_flight_ FILER_GUARDED_BY(gate_) = 0;   // prepared ones included
  std::uint16_t next_avail_ FILER_GUARDED_BY(gate_) = 0;  // free-running, wrap at 2^16
  std::uint16_t published_ FILER_GUARDED_BY(gate_) = 0;
  std::uint16_t last_used_ FILER_GUARDED_BY(gate_) = 0;
  std::uint16_t quieted_at_ FILER_GUARDED_BY(gate_) = 0;  // last_used_ when used_event was set
  bool is_broken_ FILER_GUARDED_BY(gate_) = false;
  DiskCounters counters_ FILER_GUARDED_BY(gate_);
};

}  // namespace filer::bridge
