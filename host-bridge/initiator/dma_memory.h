// dma_memory.h: a piece of EAL's memory for one disk: first its rings and tables (Carve), then the
// arena that is handed to the engine. Aligned to 2 MiB. Owned by the disk; freed by the destructor,
// when no device can reach it any more. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "host-bridge/initiator/address_map.h"

namespace filer::bridge {

class DmaMemory {
 public:
  // Room for `ring_bytes` of Carve and an arena of `arena_bytes` (a multiple of 1 MiB). InitEal
  // must have run. Errors: kNoMemory, kNotRunning.
  static Result<std::unique_ptr<DmaMemory>> Allocate(std::uint64_t ring_bytes,
                                                     std::uint64_t arena_bytes);
  ~DmaMemory();
  DmaMemory(const DmaMemory&) = delete;
  DmaMemory& operator=(const DmaMemory&) = delete;

  std::span<std::byte> all() const noexcept { return all_; }
  std::span<std::byte> arena() const noexcept { return arena_; }

  // Zeroed memory that does not cross a granule, so that every device sees it as one run. Aborts
  // when ring_bytes was too small.
  std::byte* Carve(std::size_t size_bytes, std::size_t align_bytes);

  struct Shared {
    int fd;  // EAL's
    std::uint64_t offset_bytes;
  };
  // The file behind all(), for SET_MEM_TABLE. Errors: kNotSupported when it is not one file.
  Result<Shared> Share() const;

  // Physical addresses. Errors: kNotSupported without huge pages or the right to read them.
  Result<AddressMap> PhysicalMap() const;

 private:
  DmaMemory(std::span<std::byte> all, std::uint64_t ring_bytes)
      : all_(all), arena_(all.subspan(ring_bytes)), ring_bytes_(ring_bytes) {}
  std::span<std::byte> all_;
  std::span<std::byte> arena_;
  std::uint64_t ring_bytes_;
  std::uint64_t carved_bytes_ = 0;
};

}  // namespace filer::bridge
