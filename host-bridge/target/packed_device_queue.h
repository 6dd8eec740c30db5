// packed_device_queue.h: the device's side of one packed virtqueue, as device_queue.h is of a split
// one: the same operations, the same rules. A buffer is known by its id, which is below the ring's
// size and busy from Pop until it is returned.
//
// Buffers are returned in the order of the ring, whatever the order they complete in. So a used
// descriptor never lands on one of a buffer that is still in flight, and how far the ring was
// returned is all that a successor of a killed target must know (packed_inflight.h). The price: a
// request waits for those before it.
//
// Invariants: descriptors of busy buffers are at most the ring's size together; used descriptors
// are written one after the other, each with one store that makes it visible, so that at any moment
// the ring holds a prefix of them. The ring's memory stays mapped while the queue is attached.
// Threads: one at a time, the poller that runs its queue.
#pragma once

#include <array>
#include <cstdint>

#include "host-bridge/target/chain.h"
#include "host-bridge/target/device_queue.h"
#include "host-bridge/virtio/packed_ring.h"

namespace filer::bridge {

class PackedDeviceQueue {
 public:
  using PopResult = DeviceQueue::PopResult;
  static constexpr std::uint32_t kPrefetchCount = DeviceQueue::kPrefetchCount;

  // Takes over a ring of which everything before `position` was returned: bits 0 to 14 a place,
  // bit 15 the wrap counter. The place must lie in the ring.
  void Attach(const RingLayout& layout, std::uint16_t position);
  void Move(const RingLayout& layout) { layout_ = layout; }
  bool is_attached() const { return layout_.size != 0; }
  void Detach() { layout_ = {}; }

  // Next available buffer, its descriptors copied. It is busy from now on.
  PopResult Pop(std::uint16_t& id, RingFault& fault);
  // As DeviceQueue.
  void PrefetchFollowing(const AddressView& space) const;
  void PrefetchNext(const AddressView& space) const;
  std::uint32_t Pending() const { return known_ahead_; }  // descriptors, of some lines ahead
  void Unpop(std::uint16_t id);
  // Of the last popped buffer only.
  ChainResult ReadChain(std::uint16_t id, const AddressView& space, Chain& chain, IotlbMiss& miss,
                        RingFault& fault);
  bool ReadSmallChain(std::uint16_t id, const AddressView& space, SmallChain& chain) const;

  // The buffer is done; visible in a Publish after those before it.
  void PushUsed(std::uint16_t id, std::uint32_t length_bytes);
  bool HasUnpublished() const { return first_ != end_ && buffers_[order_[first_ & kMask]].is_done; }
  // Returns what is done, up to the first buffer that is not. True: the driver wants an interrupt.
  bool Publish();

  void SuppressNotifications();
  void ArmNotifications();
  bool HasAvailable() const;

  // Where the next buffer to be returned begins, as in Attach.
  std::uint16_t position() const { return PositionOf(used_place_, used_wrap_); }
  // Where buffer `id`, which is busy, begins, and how many descriptors it has.
  std::uint16_t PlaceOf(std::uint16_t id) const { return buffers_[id].place; }
  std::uint16_t CountOf(std::uint16_t id) const { return buffers_[id].count; }

 private:
  static constexpr std::uint32_t kMask = kQueueSizeMax - 1;
  static_assert((kQueueSizeMax & kMask) == 0);
  // Looked at ahead of the next one, in descriptors: what two of the largest rounds take.
  static constexpr std::uint32_t kLookAhead = 2 * kSynchronousRoundRequestsMax + kPrefetchCount;

  struct Buffer {
    std::uint32_t used_length;
    std::uint16_t place, count;  // of its descriptors
    bool is_busy, is_done;
  };
  static std::uint16_t PositionOf(std::uint16_t place, bool wrap) {
    return static_cast<std::uint16_t>(place | (wrap ? virtio::kPackedPlaceWrap : 0));
  }
  // `count` descriptors on, round the end of the ring.
  void Advance(std::uint16_t& place, bool& wrap, std::uint32_t count) const;
  PopResult CopyChain(std::uint16_t first_flags, RingFault& fault);
  void LookAhead();
  bool IsAvailableAt(std::uint16_t place, bool wrap) const;
  bool WantsInterrupt(std::uint16_t before) const;

  RingLayout layout_;
  std::uint16_t next_place_ = 0, used_place_ = 0;
  bool next_wrap_ = true, used_wrap_ = true;
  bool is_suppressed_ = false;
  std::uint32_t known_ahead_ = 0;  // available descriptors from next_place_ on, as last seen
  std::uint32_t taken_ = 0;        // descriptors of busy buffers
  std::array<Buffer, kQueueSizeMax> buffers_{};     // by id
  std::array<std::uint16_t, kQueueSizeMax> order_;  // ids, [first_, end_) as they were popped
  std::uint32_t first_ = 0, end_ = 0;
  std::array<virtio::PackedDescriptor, kChainDescriptorsMax> chain_;  // of the last popped buffer
  std::uint32_t chain_count_ = 0;
  std::array<virtio::PackedDescriptor, kChainDescriptorsMax> table_;  // an indirect one
};

}  // namespace filer::bridge
