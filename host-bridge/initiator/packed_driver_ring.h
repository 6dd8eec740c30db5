// packed_driver_ring.h: the driver's side of one packed ring (VIRTIO 1.2, 2.8): places, wrap
// counters and event areas. What the descriptors say is DriverQueue's business.
// Threads: its queue's.
#pragma once

#include <cstdint>

#include "host-bridge/virtio/packed_ring.h"

namespace filer::bridge {

class PackedDriverRing {
 public:
  // Shared with the device; outlive the ring.
  struct Memory {
    virtio::PackedDescriptor* ring;
    virtio::PackedEvent* driver_event;
    const virtio::PackedEvent* device_event;
    std::uint32_t size;
    bool has_event_index;
  };
  explicit PackedDriverRing(const Memory& memory) : memory_(memory) {}

  // The next descriptor, of buffer `id`; `flags` without those of availability. The device sees
  // none of a batch before Publish. There must be room.
  void Offer(std::uint64_t address, std::uint32_t length, std::uint16_t flags, std::uint16_t id);
  // True: the device wants a doorbell.
  bool Publish();

  // What the device returned in the next place, or flags that are not used: read in one piece.
  virtio::PackedDescriptor PeekUsed() const;
  bool IsUsed(const virtio::PackedDescriptor& descriptor) const {
    return virtio::IsPackedUsed(descriptor.flags, used_wrap_);
  }
  // It was a buffer of `count` descriptors.
  void TakeUsed(std::uint32_t count) { Advance(used_place_, used_wrap_, count); }

  // The device need never interrupt.
  void QuietInterrupts();
  // As new, nothing offered; no device may use it meanwhile.
  void Restart();

 private:
  void Advance(std::uint16_t& place, bool& wrap, std::uint32_t count) const;

  const Memory memory_;
  std::uint16_t next_place_ = 0, used_place_ = 0;
  bool next_wrap_ = true, used_wrap_ = true;
  // The first of the batch: written last.
  virtio::PackedDescriptor first_ = {};
  std::uint16_t first_place_ = 0;
  bool first_wrap_ = true;
  bool has_first_ = false;
};

}  // namespace filer::bridge
