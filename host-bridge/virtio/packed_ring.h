// packed_ring.h: the packed virtqueue of VIRTIO 1.2 (section 2.8), as both ends of the bridge see
// it. One ring of descriptors that both ends write: the driver makes some available, the device
// overwrites them as used. Which lap of the ring a descriptor belongs to is told by two bits of its
// flags against a wrap counter that each end keeps: 1 in the first lap, then in turns.
//
// The memory is shared with a peer that is not trusted: as with ring.h, fields are read once into a
// local, and the local is used. Flags are read with LoadAcquire and written with StoreRelease: they
// publish the rest of the descriptor.
// Threads: one writer per field at a time; a descriptor belongs to one end, by its flags.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host-bridge/virtio/ring.h"

namespace filer::virtio {

inline constexpr std::uint32_t kPackedQueueSizeMax = 32768;  // VIRTIO 1.2, 2.8.10.1; any number

// Flags of PackedDescriptor, beside kDescriptorNext, kDescriptorWrite and kDescriptorIndirect. In a
// used descriptor only kDescriptorWrite means something.
inline constexpr std::uint16_t kPackedAvail = 1U << 7;
inline constexpr std::uint16_t kPackedUsed = 1U << 15;

struct PackedDescriptor {
  std::uint64_t address;  // guest-physical, or IOVA with ACCESS_PLATFORM
  std::uint32_t length;   // bytes; in a used one: bytes that the device wrote
  std::uint16_t id;       // of the buffer: the driver's in its last descriptor, the device's answer
  std::uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == 16 && alignof(PackedDescriptor) == 8);
static_assert(offsetof(PackedDescriptor, flags) == 14);

// PackedEvent::flags (2.8.14): when the end that wrote it wants to be notified.
inline constexpr std::uint16_t kPackedEventAlways = 0;
inline constexpr std::uint16_t kPackedEventNever = 1;
inline constexpr std::uint16_t kPackedEventAt = 2;  // at `place`; with EVENT_IDX only

// The driver's area is written by the driver and read by the device, the device's area the reverse.
struct PackedEvent {
  std::uint16_t place;  // bits 0 to 14: of a descriptor; bit 15: the wrap counter of its lap
  std::uint16_t flags;
};
static_assert(sizeof(PackedEvent) == 4 && alignof(PackedEvent) == 2);

inline constexpr std::uint16_t kPackedPlaceMask = 0x7fff;
inline constexpr std::uint16_t kPackedPlaceWrap = 0x8000;

// Alignments that the addresses of the three parts must have, and the ring's size in bytes.
inline constexpr std::size_t kPackedRingAlign = 16;
inline constexpr std::size_t kPackedEventAlign = 4;
constexpr std::size_t PackedRingBytes(std::uint32_t queue_size) {
  return sizeof(PackedDescriptor) * queue_size;
}

// Whether a descriptor with these flags was made available in the lap whose wrap counter is `wrap`
// and not used since.
constexpr bool IsPackedAvailable(std::uint16_t flags, bool wrap) {
  return ((flags & kPackedAvail) != 0) == wrap && ((flags & kPackedUsed) != 0) != wrap;
}
// Whether the device used it in that lap.
constexpr bool IsPackedUsed(std::uint16_t flags, bool wrap) {
  return ((flags & kPackedAvail) != 0) == wrap && ((flags & kPackedUsed) != 0) == wrap;
}
constexpr std::uint16_t PackedAvailableFlags(bool wrap) {
  return wrap ? kPackedAvail : kPackedUsed;
}
constexpr std::uint16_t PackedUsedFlags(bool wrap) {
  return wrap ? static_cast<std::uint16_t>(kPackedAvail | kPackedUsed) : std::uint16_t{0};
}

}  // namespace filer::virtio
