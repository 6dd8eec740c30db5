// device_queue.h: the device's side of one split virtqueue: takes heads, reads chains, returns used
// elements. Everything it reads in the ring was written by a hostile driver: each field is read
// once into a local, checked, and used from there. A fault (RingFault) is fatal for this queue
// only.
//
// Invariants: a head is busy from Pop until PushUsed; used elements become visible together, in
// Publish. The ring's memory stays mapped while the queue is attached (the session's duty).
// Threads: one at a time, the poller that runs its queue.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>

#include "host-bridge/target/chain.h"
#include "host-bridge/virtio/packed_ring.h"
#include "host-bridge/virtio/ring.h"

namespace filer::bridge {

// Of a split ring, or of a packed one.
struct RingLayout {
  virtio::Descriptor* descriptors = nullptr;
  virtio::AvailRing* avail = nullptr;
  virtio::UsedRing* used = nullptr;
  std::uint32_t size = 0;
  bool has_event_index = false;
  bool has_indirect = false;
  virtio::PackedDescriptor* packed = nullptr;  // null: split
  const virtio::PackedEvent* driver_event = nullptr;
  virtio::PackedEvent* device_event = nullptr;
};

class DeviceQueue {
 public:
  // Takes over a ring whose next avail entry is `base`. Used elements go on where used->index is.
  void Attach(const RingLayout& layout, std::uint16_t base);
  // The same ring at another host address (its IOTLB entries changed); positions stay.
  void Move(const RingLayout& layout) {
    layout_ = layout;
    pushed_.fill({});
  }
  bool is_attached() const { return layout_.size != 0; }
  void Detach() { layout_ = {}; }

  enum class PopResult : std::uint8_t { kEmpty, kHead, kFault };
  // Next published head. It is busy from now on.
  PopResult Pop(std::uint16_t& head, RingFault& fault);
  // Fetches what the next heads point to while the last popped one is worked on: tables and headers
  // come from another core, and their ways there overlap. A hint: it checks no more than it needs.
  static constexpr std::uint32_t kPrefetchCount = 8;
  void PrefetchFollowing(const AddressView& space) const;
  // Heads that are known to be published and not popped.
  std::uint32_t Pending() const { return static_cast<std::uint16_t>(known_avail_ - next_avail_); }
  // While nothing is published: fetches what the next head pointed to when its place in the ring
  // was last used. A driver that hands out heads in turn writes that line just before it publishes,
  // and then both lines come at once.
  void PrefetchNext(const AddressView& space) const;
  // Gives the last popped head back to the avail ring: to be popped again.
  void Unpop(std::uint16_t head);
  // Marks a head of the inflight table busy. False: out of range or twice.
  bool Claim(std::uint16_t head);

  using ReadResult = ChainResult;
  // The chain at `head`, translated whole. On kMiss nothing was consumed: Unpop and try later.
  ReadResult ReadChain(std::uint16_t head, const AddressView& space, Chain& chain, IotlbMiss& miss,
                       RingFault& fault);

  // A small chain; false for every other, also for one that is wrong: ReadChain says what it is,
  // from the ring's memory anew.
  using SmallChain = bridge::SmallChain;
  bool ReadSmallChain(std::uint16_t head, const AddressView& space, SmallChain& chain) const;

  // Writes one used element; visible after Publish.
  void PushUsed(std::uint16_t head, std::uint32_t length_bytes);
  bool HasUnpublished() const { return published_used_ != next_used_; }
  // One release store for all pushed elements. True: the driver wants an interrupt.
  bool Publish();

  // The driver need not notify us: we poll. Cheap to call each round.
  void SuppressNotifications();
  // The driver shall notify us of the next entry. Look at HasAvailable once more before sleeping.
  void ArmNotifications();
  bool HasAvailable() const;

  std::uint16_t next_avail() const { return next_avail_; }
  void SetNextAvail(std::uint16_t index) { next_avail_ = known_avail_ = index; }
  std::uint16_t next_used() const { return next_used_; }
  std::uint32_t size() const { return layout_.size; }

 private:
  void PrefetchChainAt(std::uint32_t place, const AddressView& space) const;
  ReadResult ReadIndirect(const virtio::Descriptor& table, ChainWalk& walk);

  RingLayout layout_;
  std::uint16_t next_avail_ = 0;  // free-running
  std::uint16_t next_used_ = 0;   // free-running, pushed
  std::uint16_t published_used_ = 0;
  std::uint16_t known_avail_ = 0;  // what avail->index was when last read
  std::uint16_t event_base_ = 0;   // next_avail_ when avail_event was last put away
  bool is_suppressed_ = false;
  std::bitset<kQueueSizeMax> busy_;
  // What stands in the used ring by our hand (length 0: unknown). What is there already is not
  // written again: its line stays in the driver's cache, too.
  std::array<virtio::UsedElement, kQueueSizeMax> pushed_{};
  std::array<virtio::Descriptor, kChainDescriptorsMax> table_;  // private copy of an indirect table
};

}  // namespace filer::bridge
