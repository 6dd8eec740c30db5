#include "host-bridge/target/memory_map.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"
#include "host-bridge/target/fault_guard.h"
#include "host-bridge/target/peer_descriptor.h"

namespace filer::bridge {
namespace {

bool Overlaps(std::uint64_t a, std::uint64_t b, std::uint64_t a_size, std::uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

bool IsSame(const RegionSpec& a, const RegionSpec& b) {
  return a.guest_address == b.guest_address && a.user_address == b.user_address &&
         a.size_bytes == b.size_bytes;
}

}  // namespace

Result<MappedFile> MappedFile::Map(const UniqueFd& fd, std::uint64_t offset,
                                   std::uint64_t size_bytes) {
  constexpr auto kNoMemory = "shared memory must be a memfd or in tmpfs or hugetlbfs";
  // First of all: what follows may block on any other file.
  if (!IsOfKind(fd.get(), DescriptorKind::kMemory)) return Error(Errc::kNotSupported, kNoMemory);
  struct stat status {};
  struct statfs system {};
  if (::fstat(fd.get(), &status) != 0 || ::fstatfs(fd.get(), &system) != 0) {
    return Error::System(errno, "fstat on a memory file");
  }
  const bool is_huge = system.f_type == HUGETLBFS_MAGIC;
  if (!S_ISREG(status.st_mode) || (system.f_type != TMPFS_MAGIC && !is_huge)) {
    return Error(Errc::kNotSupported, kNoMemory);
  }
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  if (size_bytes == 0 || offset > file_bytes || size_bytes > file_bytes - offset) {
    return Error(Errc::kBadAddress, "memory region reaches beyond the end of its file");
  }
  const std::uint64_t unit = is_huge ? static_cast<std::uint64_t>(system.f_bsize) : 4096;
  const std::uint64_t begin = RoundDown(offset, unit);
  const std::uint64_t end = RoundUp(offset + size_bytes, unit);
  void* mapping = ::mmap(nullptr, end - begin, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                         fd.get(), static_cast<off_t>(begin));
  if (mapping == MAP_FAILED) return Error::System(errno, "mmap of guest memory");
  ::madvise(mapping, end - begin, MADV_DONTDUMP);

  FaultGuard::Install();
  auto slot = FaultGuard::Add(mapping, end - begin);
  if (!slot.has_value()) {
    ::munmap(mapping, end - begin);
    return std::move(slot).assume_error();
  }
  MappedFile file;
  file.mapping_ = mapping;
  file.mapping_bytes_ = end - begin;
  file.data_ = static_cast<std::byte*>(mapping) + (offset - begin);
  file.guard_slot_ = slot.assume_value();
  return file;
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
  std::swap(data_, other.data_);
  std::swap(guard_slot_, other.guard_slot_);
  return *this;
}

MappedFile::~MappedFile() {
  if (mapping_ == nullptr) return;
  FaultGuard::Remove(guard_slot_);
  ::munmap(mapping_, mapping_bytes_);
}

bool MappedFile::IsBroken() const {
  return mapping_ != nullptr && FaultGuard::IsBroken(guard_slot_);
}

Result<void> MemoryMap::Add(const RegionSpec& spec, const UniqueFd& fd) {
  if (regions_.size() == kMemoryRegionsMax) {
    return Error(Errc::kTooBig, "more memory regions than this target takes");
  }
  std::uint64_t end = 0;
  if (spec.size_bytes == 0 || __builtin_add_overflow(spec.guest_address, spec.size_bytes, &end) ||
      __builtin_add_overflow(spec.user_address, spec.size_bytes, &end) ||
      __builtin_add_overflow(spec.mmap_offset, spec.size_bytes, &end)) {
    return Error(Errc::kBadAddress, "memory region is empty or wraps around");
  }
  std::uint64_t left_bytes = kMemoryBytesMax;  // a file may be sparse, addresses are not
  for (const auto& region : regions_) left_bytes -= region->spec.size_bytes;
  if (spec.size_bytes > left_bytes) {
    return Error(Errc::kTooBig, "more memory than this target takes");
  }
  for (const auto& region : regions_) {
    const RegionSpec& other = region->spec;
    if (Overlaps(spec.guest_address, other.guest_address, spec.size_bytes, other.size_bytes) ||
        Overlaps(spec.user_address, other.user_address, spec.size_bytes, other.size_bytes)) {
      return Error(Errc::kBadAddress, "memory regions overlap");
    }
  }
  auto region = std::make_unique<Region>();
  region->spec = spec;
  region->file = FILER_TRY(MappedFile::Map(fd, spec.mmap_offset, spec.size_bytes));
  regions_.push_back(std::move(region));
  Reindex();
  return Ok();
}

Result<MemoryMap::Removed> MemoryMap::Remove(const RegionSpec& spec) {
  const auto found = std::find_if(regions_.begin(), regions_.end(),
                                  [&](const auto& region) { return IsSame(region->spec, spec); });
  if (found == regions_.end()) return Error(Errc::kNotFound, "no such memory region");
  Removed removed;
  removed.push_back(std::move(*found));
  regions_.erase(found);
  Reindex();
  return removed;
}

MemoryMap::Removed MemoryMap::Clear() {
  Removed removed = std::exchange(regions_, {});
  Reindex();
  return removed;
}

bool MemoryMap::IsBroken() const {
  return std::any_of(regions_.begin(), regions_.end(),
                     [](const auto& region) { return region->file.IsBroken(); });
}

std::vector<iovec> MemoryMap::Regions() const {
  std::vector<iovec> regions;
  for (const auto& region : regions_) {
    // Whole pages, for registration; the file has them (Map rounded outwards).
    auto* begin = reinterpret_cast<std::byte*>(
        RoundDown(reinterpret_cast<std::uintptr_t>(region->file.data()), 4096));
    const auto skipped = static_cast<std::uint64_t>(region->file.data() - begin);
    regions.push_back({begin, RoundUp(skipped + region->spec.size_bytes, 4096)});
  }
  return regions;
}

TranslateStatus MemoryMap::Translate(const Index& index, std::uint32_t& last, std::uint64_t address,
                                     std::uint64_t length, SegmentList& list) {
  std::uint64_t end = 0;
  if (length == 0 || __builtin_add_overflow(address, length, &end)) {
    return TranslateStatus::kBadAddress;
  }
  while (true) {
    const Entry* entry = &index.entries[last];
    if (address < entry->begin || address >= entry->end) {
      std::uint32_t i = 0;
      while (i < index.count &&
             (address < index.entries[i].begin || address >= index.entries[i].end)) {
        ++i;
      }
      if (i == index.count) return TranslateStatus::kBadAddress;
      last = i;
      entry = &index.entries[i];
    }
    const std::uint64_t piece = std::min(end, entry->end) - address;
    if (!list.Append(entry->host + (address - entry->begin), piece)) {
      return TranslateStatus::kTooManySegments;
    }
    address += piece;
    if (address == end) return TranslateStatus::kOk;
  }
}

void MemoryMap::Reindex() {
  by_guest_ = {};
  by_user_ = {};
  for (const auto& region : regions_) {
    const RegionSpec& spec = region->spec;
    by_guest_.entries[by_guest_.count++] = {
        spec.guest_address, spec.guest_address + spec.size_bytes, region->file.data()};
    by_user_.entries[by_user_.count++] = {spec.user_address, spec.user_address + spec.size_bytes,
                                          region->file.data()};
  }
}

}  // namespace filer::bridge
