// address_space.h: what an address in a ring means: a guest address, or behind a vIOMMU
// (ACCESS_PLATFORM) an IOVA that the IOTLB turns into a user address of the front end.
// Threads: as each class says; an Iotlb as its space.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "host-bridge/target/memory_map.h"

namespace filer::bridge {

struct IotlbMiss {
  std::uint64_t iova = 0;
  std::uint8_t permission = 0;  // virtio::kIotlbRead, kIotlbWrite
  friend bool operator==(const IotlbMiss&, const IotlbMiss&) = default;
};

// Translations the front end gave, by IOVA. Bounded: when it is full, all are forgotten and asked
// for again.
class Iotlb {
 public:
  struct Entry {
    std::uint64_t begin = 0;
    std::uint64_t last = 0;  // inclusive: a mapping may end at 2^64 - 1
    std::uint64_t user_address = 0;
    std::uint8_t permission = 0;
  };
  // Errors: kBadAddress (empty, wraps around, or not of whole pages of 4 KiB: each entry is a step
  // of the poller for what lies in it).
  Result<void> Update(std::uint64_t iova, std::uint64_t size_bytes, std::uint64_t user_address,
                      std::uint8_t permission);
  void Invalidate(std::uint64_t iova, std::uint64_t size_bytes);
  void Clear() { entries_.clear(); }
  const Entry* Find(std::uint64_t iova) const;
  std::size_t size() const { return entries_.size(); }

 private:
  void Erase(std::uint64_t begin, std::uint64_t last);
  std::vector<Entry> entries_;  // sorted, disjoint
};

// What a session shares with its queues. They only look, so that several pollers may; it is changed
// while none does.
class AddressSpace {
 public:
  MemoryMap& memory() { return memory_; }
  const MemoryMap& memory() const { return memory_; }
  Iotlb& iotlb() { return iotlb_; }
  const Iotlb& iotlb() const { return iotlb_; }
  void UseIotlb(bool is_used) { uses_iotlb_ = is_used; }
  bool uses_iotlb() const { return uses_iotlb_; }

 private:
  MemoryMap memory_;
  Iotlb iotlb_;
  bool uses_iotlb_ = false;
};

// One queue's way into it: remembers where it looked last, which therefore is nobody else's to
// write. Threads: the queue's poller.
class AddressView {
 public:
  // Implicit: who translates once needs no name for it. `space` outlives the view.
  AddressView(const AddressSpace& space) : space_(space) {}

  // Appends the host pieces of what a descriptor names. On kMiss, `miss` says what to ask for.
  TranslateStatus Translate(std::uint64_t address, std::uint64_t length, std::uint8_t permission,
                            SegmentList& list, IotlbMiss& miss) const {
    if (!space_.uses_iotlb()) return space_.memory().TranslateGuest(address, length, list, window_);
    return TranslateIova(address, length, permission, list, miss);
  }
  // The same for a part of a ring, whose address is a user address without a vIOMMU.
  TranslateStatus TranslateRing(std::uint64_t address, std::uint64_t length,
                                std::uint8_t permission, SegmentList& list, IotlbMiss& miss) const {
    if (!space_.uses_iotlb()) return space_.memory().TranslateUser(address, length, list, window_);
    return TranslateIova(address, length, permission, list, miss);
  }
  // Where the range lies in this process if it is known without searching that all of it is guest
  // memory in one piece, else nullptr. Never behind a vIOMMU.
  std::byte* Peek(std::uint64_t address, std::uint64_t length) const {
    return space_.uses_iotlb() ? nullptr : space_.memory().PeekGuest(address, length, window_);
  }

 private:
  TranslateStatus TranslateIova(std::uint64_t address, std::uint64_t length,
                                std::uint8_t permission, SegmentList& list, IotlbMiss& miss) const;
  const AddressSpace& space_;
  mutable MemoryMap::Window window_;
};

}  // namespace filer::bridge
