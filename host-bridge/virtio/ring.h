// ring.h: the split virtqueue of VIRTIO 1.2 (section 2.7), as both ends of the bridge see it.
//
// The memory is shared with a peer that is not trusted: fields are read through LoadOnce or
// LoadAcquire into a local, the local is checked, the local is used. Integers are little-endian;
// so is every machine this builds for (asserted below), so that the fields stay plain and atomic.
// Threads: one writer per field; the pairs of release and acquire are named at the functions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace filer::virtio {

static_assert(std::endian::native == std::endian::little, "ring fields are little-endian");

inline constexpr std::uint32_t kQueueSizeMax = 32768;  // VIRTIO 1.2, 2.7: a power of two

// Flags of Descriptor.
inline constexpr std::uint16_t kDescriptorNext = 1;
inline constexpr std::uint16_t kDescriptorWrite = 2;  // written by the device
inline constexpr std::uint16_t kDescriptorIndirect = 4;

inline constexpr std::uint16_t kAvailNoInterrupt = 1;  // AvailRing::flags, without EVENT_IDX
inline constexpr std::uint16_t kUsedNoNotify = 1;      // UsedRing::flags, without EVENT_IDX

// One piece of a request. Indirect tables are arrays of the same struct.
struct Descriptor {
  std::uint64_t address;  // guest-physical, or IOVA with ACCESS_PLATFORM
  std::uint32_t length;   // bytes
  std::uint16_t flags;
  std::uint16_t next;  // valid with kDescriptorNext
};
static_assert(sizeof(Descriptor) == 16 && alignof(Descriptor) == 8);

// Driver to device. Followed by le16 ring[queue_size], then le16 used_event.
struct AvailRing {
  std::uint16_t flags;
  std::uint16_t index;   // free-running: entries published so far
  std::uint16_t ring[];  // heads of chains
};
static_assert(sizeof(AvailRing) == 4 && offsetof(AvailRing, ring) == 4);

struct UsedElement {
  std::uint32_t id;      // head of the chain
  std::uint32_t length;  // bytes the device wrote
};
static_assert(sizeof(UsedElement) == 8);

// Device to driver. Followed by UsedElement ring[queue_size], then le16 avail_event.
struct UsedRing {
  std::uint16_t flags;
  std::uint16_t index;  // free-running: elements published so far
  UsedElement ring[];
};
static_assert(sizeof(UsedRing) == 4 && offsetof(UsedRing, ring) == 4);

// Alignments that the addresses of the three parts must have (VIRTIO 1.2, 2.7).
inline constexpr std::size_t kDescriptorTableAlign = 16;
inline constexpr std::size_t kAvailRingAlign = 2;
inline constexpr std::size_t kUsedRingAlign = 4;

// Sizes in bytes, the event fields included.
constexpr std::size_t DescriptorTableBytes(std::uint32_t queue_size) {
  return sizeof(Descriptor) * queue_size;
}
constexpr std::size_t AvailRingBytes(std::uint32_t queue_size) {
  return sizeof(AvailRing) + sizeof(std::uint16_t) * queue_size + sizeof(std::uint16_t);
}
constexpr std::size_t UsedRingBytes(std::uint32_t queue_size) {
  return sizeof(UsedRing) + sizeof(UsedElement) * queue_size + sizeof(std::uint16_t);
}

// used_event: the driver wants an interrupt when the used index passes it. avail_event: likewise
// for the device. Both with VIRTIO_F_EVENT_IDX only.
inline std::uint16_t* UsedEvent(AvailRing* avail, std::uint32_t queue_size) {
  return &avail->ring[queue_size];
}
inline std::uint16_t* AvailEvent(UsedRing* used, std::uint32_t queue_size) {
  return reinterpret_cast<std::uint16_t*>(&used->ring[queue_size]);
}

// Whether moving an index from `old_index` to `new_index` passes `event` (VIRTIO 1.2, 2.7.10.1).
constexpr bool EventPassed(std::uint16_t event, std::uint16_t new_index, std::uint16_t old_index) {
  return static_cast<std::uint16_t>(new_index - event - 1) <
         static_cast<std::uint16_t>(new_index - old_index);
}

// One read of shared memory: the compiler neither repeats nor splits it.
template <typename T>
T LoadOnce(const T& shared) {
  return __atomic_load_n(&shared, __ATOMIC_RELAXED);
}
template <typename T>
void StoreOnce(T& shared, T value) {
  __atomic_store_n(&shared, value, __ATOMIC_RELAXED);
}
// Reads the index the other end published; pairs with its StoreRelease.
template <typename T>
T LoadAcquire(const T& shared) {
  return __atomic_load_n(&shared, __ATOMIC_ACQUIRE);
}
// Publishes an index after the entries it covers; pairs with the other end's LoadAcquire.
template <typename T>
void StoreRelease(T& shared, T value) {
  __atomic_store_n(&shared, value, __ATOMIC_RELEASE);
}
// Between publishing an index and reading the other end's event field (and the reverse there):
// without it both may miss the other's store and sleep.
inline void FullFence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace filer::virtio
