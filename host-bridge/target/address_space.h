// address_space.h: what an address in a ring means: a guest address, or behind a vIOMMU
// (ACCESS_PLATFORM) an IOVA that the IOTLB turns into a user address of the front end.
// Threads: its session's poller.
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
  // Errors: kBadAddress (empty or wraps around).
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

class AddressSpace {
 public:
  MemoryMap& memory() { return memory_; }
  const MemoryMap& memory() const { return memory_; }
  Iotlb& iotlb() { return iotlb_; }
  void UseIotlb(bool is_used) { uses_iotlb_ = is_used; }
  bool uses_iotlb() const { return uses_iotlb_; }

  // Appends the host pieces of what a descriptor names. On kMiss, `miss` says what to ask for.
  TranslateStatus Translate(std::uint64_t address, std::uint64_t length, std::uint8_t permission,
                            SegmentList& list, IotlbMiss& miss) const {
    if (!uses_iotlb_) return memory_.TranslateGuest(address, length, list);
    return TranslateIova(address, length, permission, list, miss);
  }
  // The same for a part of a ring, whose address is a user address without a vIOMMU.
  TranslateStatus TranslateRing(std::uint64_t address, std::uint64_t length,
                                std::uint8_t permission, SegmentList& list, IotlbMiss& miss) const {
    if (!uses_iotlb_) return memory_.TranslateUser(address, length, list);
    return TranslateIova(address, length, permission, list, miss);
  }
  // Where the range lies in this process if it is known without searching that all of it is guest
  // memory in one piece, else nullptr. Never behind a vIOMMU.
  std::byte* Peek(std::uint64_t address, std::uint64_t length) const {
    return uses_iotlb_ ? nullptr : memory_.PeekGuest(address, length);
  }

 private:
  TranslateStatus TranslateIova(std::uint64_t address, std::uint64_t length,
                                std::uint8_t permission, SegmentList& list, IotlbMiss& miss) const;
  MemoryMap memory_;
  Iotlb iotlb_;
  bool uses_iotlb_ = false;
};

}  // namespace filer::bridge
