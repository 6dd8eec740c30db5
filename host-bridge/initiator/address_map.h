// address_map.h: where the memory of a disk lies in the address space of the device: front end's
// addresses (vhost-user), IOVAs (VFIO) or physical addresses (UIO), which are contiguous only
// within a page. Immutable after construction; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/assert.h"

namespace filer::bridge {

class AddressMap {
 public:
  struct Piece {
    std::uint64_t address;
    std::uint64_t length_bytes;
  };
  // Pages of this size are contiguous for every device: memory of a disk is aligned to it.
  static constexpr std::uint64_t kGranuleBytes = 2 << 20;

  // One run that starts at `first_address`.
  static AddressMap Linear(std::span<std::byte> memory, std::uint64_t first_address) {
    std::vector<std::uint64_t> granules((memory.size() + kGranuleBytes - 1) / kGranuleBytes);
    for (std::size_t i = 0; i < granules.size(); ++i) {
      granules[i] = first_address + i * kGranuleBytes;
    }
    return AddressMap(memory, std::move(granules));
  }
  // granules[i] is the address of memory[i * kGranuleBytes].
  AddressMap(std::span<std::byte> memory, std::vector<std::uint64_t> granules)
      : memory_(memory), granules_(std::move(granules)) {
    FILER_ASSERT(granules_.size() * kGranuleBytes >= memory.size());
  }

  bool Contains(const void* start, std::uint64_t length_bytes) const noexcept {
    const auto offset = OffsetOf(start);
    return offset <= memory_.size() && length_bytes <= memory_.size() - offset;
  }

  // The longest run from `start` that the device sees as one, at most `length_bytes`. The range
  // must be contained.
  Piece Translate(const void* start, std::uint64_t length_bytes) const noexcept {
    const std::uint64_t offset = OffsetOf(start);
    std::size_t granule = offset / kGranuleBytes;
    const std::uint64_t address = granules_[granule] + offset % kGranuleBytes;
    std::uint64_t run = kGranuleBytes - offset % kGranuleBytes;
    while (run < length_bytes && granules_[granule + 1] == granules_[granule] + kGranuleBytes) {
      run += kGranuleBytes;
      ++granule;
    }
    return {address, run < length_bytes ? run : length_bytes};
  }

 private:
  std::uint64_t OffsetOf(const void* start) const noexcept {
    // Below the start it wraps to a huge number, which is not contained.
    return reinterpret_cast<std::uintptr_t>(start) -
           reinterpret_cast<std::uintptr_t>(memory_.data());
  }
  std::span<std::byte> memory_;
  std::vector<std::uint64_t> granules_;
};

}  // namespace filer::bridge
