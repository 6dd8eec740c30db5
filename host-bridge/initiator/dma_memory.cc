#include "host-bridge/initiator/dma_memory.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "base/units.h"
#include "host-bridge/initiator/dpdk.h"
#include "host-bridge/initiator/eal.h"

namespace filer::bridge {

Result<std::unique_ptr<DmaMemory>> DmaMemory::Allocate(std::uint64_t ring_bytes,
                                                       std::uint64_t arena_bytes) {
  if (!IsEalRunning())
    return Error(Errc::kNotRunning, "the DMA memory is not set up: InitEal first");
  const std::uint64_t rings = RoundUp(ring_bytes, AddressMap::kGranuleBytes);
  const std::uint64_t size = RoundUp(rings + arena_bytes, AddressMap::kGranuleBytes);
  void* start = ::rte_malloc(nullptr, size, AddressMap::kGranuleBytes);
  if (start == nullptr) {
    return Error(
        Errc::kNoMemory,
        fmt::format("no {} MiB left in the DMA memory: give the process more memory", size >> 20));
  }
  const std::span<std::byte> all(static_cast<std::byte*>(start), rings + arena_bytes);
  return std::unique_ptr<DmaMemory>(new DmaMemory(all, rings));
}

DmaMemory::~DmaMemory() { ::rte_free(all_.data()); }

std::byte* DmaMemory::Carve(std::size_t size_bytes, std::size_t align_bytes) {
  FILER_ASSERT(size_bytes <= AddressMap::kGranuleBytes);
  std::uint64_t start = RoundUp(carved_bytes_, align_bytes);
  const std::uint64_t granule_end = RoundUp(start + 1, AddressMap::kGranuleBytes);
  if (start + size_bytes > granule_end) start = granule_end;
  FILER_ASSERT(start + size_bytes <= ring_bytes_);
  carved_bytes_ = start + size_bytes;
  std::memset(all_.data() + start, 0, size_bytes);
  return all_.data() + start;
}

Result<DmaMemory::Shared> DmaMemory::Share() const {
  const Error not_one_file(Errc::kNotSupported, "the DMA memory is not one shareable file");
  int fd = -1;
  std::uint64_t first_offset = 0;
  // With huge pages each one is a segment; without, each small page: look at every granule and at
  // the last byte.
  for (std::uint64_t at = 0; at < all_.size() + AddressMap::kGranuleBytes;
       at += AddressMap::kGranuleBytes) {
    const std::uint64_t byte = std::min<std::uint64_t>(at, all_.size() - 1);
    const rte_memseg* segment = ::rte_mem_virt2memseg(all_.data() + byte, nullptr);
    if (segment == nullptr) return not_one_file;
    const int segment_fd = ::rte_memseg_get_fd(segment);
    std::size_t offset = 0;
    if (segment_fd < 0 || ::rte_memseg_get_fd_offset(segment, &offset) < 0) return not_one_file;
    const auto within =
        static_cast<std::uint64_t>(all_.data() + byte - static_cast<std::byte*>(segment->addr));
    const std::uint64_t here = offset + within - byte;  // where all_[0] would lie
    if (at == 0) {
      fd = segment_fd;
      first_offset = here;
    }
    if (segment_fd != fd || here != first_offset) return not_one_file;
  }
  return Shared{fd, first_offset};
}

Result<AddressMap> DmaMemory::PhysicalMap() const {
  const rte_memseg* segment = ::rte_mem_virt2memseg(all_.data(), nullptr);
  if (segment == nullptr || segment->hugepage_sz < AddressMap::kGranuleBytes) {
    return Error(Errc::kNotSupported,
                 "the PCI transport without an IOMMU needs huge pages: reserve them "
                 "(vm.nr_hugepages) and set Huge_Pages = true");
  }
  std::vector<std::uint64_t> granules;
  for (std::uint64_t at = 0; at < all_.size(); at += AddressMap::kGranuleBytes) {
    all_[at] = std::byte{0};  // faults the page in
    const phys_addr_t address = ::rte_mem_virt2phy(all_.data() + at);
    if (address == RTE_BAD_PHYS_ADDR || address == 0) {
      return Error(Errc::kNotSupported,
                   "physical addresses cannot be read: the process needs CAP_SYS_ADMIN");
    }
    granules.push_back(address);
  }
  return AddressMap(all_, std::move(granules));
}

}  // namespace filer::bridge
