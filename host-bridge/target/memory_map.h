// memory_map.h: the guest memory that a front end shared: regions of its memory files, mapped here,
// found by guest address or by the front end's own ("user") address.
//
// Invariants: regions overlap in neither address space; a range is translated whole or not at all,
// and split where regions meet. Nothing may use a translated pointer after Remove or Clear: the
// session waits for its requests first.
// Threads: its session's poller. Any number of pollers may translate while nobody changes it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "host-bridge/target/segments.h"

namespace filer::bridge {

struct RegionSpec {
  std::uint64_t guest_address = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t user_address = 0;
  std::uint64_t mmap_offset = 0;
};

// One mapping of a piece of a memory file; unmapped when destroyed.
class MappedFile {
 public:
  // Maps `size_bytes` from `offset`, which need not be aligned. Only memory files (tmpfs, memfd,
  // hugetlbfs): a page fault on anything else could block, or be served by the client.
  // Errors: kBadAddress (beyond the file's end, overflow), kNotSupported, kSystem.
  static Result<MappedFile> Map(const UniqueFd& fd, std::uint64_t offset, std::uint64_t size_bytes);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::byte* data() const { return data_; }
  bool is_mapped() const { return mapping_ != nullptr; }
  bool IsBroken() const;  // the file was truncated under us

 private:
  void* mapping_ = nullptr;  // what munmap wants: aligned
  std::size_t mapping_bytes_ = 0;
  std::byte* data_ = nullptr;
  std::size_t guard_slot_ = 0;
};

class MemoryMap {
 public:
  struct Region {
    RegionSpec spec;
    MappedFile file;
  };
  // What is no longer part of the map. Unmapping it may take seconds: the last one of a file frees
  // its memory.
  using Removed = std::vector<std::unique_ptr<Region>>;

  // `fd` may be closed afterwards. Errors: kTooBig (too many regions or bytes), kBadAddress
  // (overlap, overflow, empty, beyond the file), kNotSupported, kSystem.
  Result<void> Add(const RegionSpec& spec, const UniqueFd& fd);
  // Errors: kNotFound.
  Result<Removed> Remove(const RegionSpec& spec);
  [[nodiscard]] Removed Clear();

  // Where one user of the map found its last address: mostly the next one is there, too. It stays
  // usable when the map changes.
  struct Window {
    std::uint32_t guest = 0;
    std::uint32_t user = 0;
  };

  // Appends the host pieces of the range to `list`. Never kMiss.
  TranslateStatus TranslateGuest(std::uint64_t address, std::uint64_t length, SegmentList& list,
                                 Window& window) const {
    return Translate(by_guest_, window.guest, address, length, list);
  }
  TranslateStatus TranslateUser(std::uint64_t address, std::uint64_t length, SegmentList& list,
                                Window& window) const {
    return Translate(by_user_, window.user, address, length, list);
  }
  // The host address if the whole range lies in the region that the last translation with this
  // window found, else nullptr.
  std::byte* PeekGuest(std::uint64_t address, std::uint64_t length, const Window& window) const {
    const Entry& entry = by_guest_.entries[window.guest];
    if (address < entry.begin || address >= entry.end) return nullptr;
    if (length > entry.end - address) return nullptr;
    return entry.host + (address - entry.begin);
  }
  bool IsBroken() const;
  std::vector<iovec> Regions() const;
  std::size_t size() const { return regions_.size(); }

 private:
  struct Entry {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::byte* host = nullptr;
  };
  struct Index {
    std::array<Entry, kMemoryRegionsMax> entries;
    std::uint32_t count = 0;
  };

  static TranslateStatus Translate(const Index& index, std::uint32_t& last, std::uint64_t address,
                                   std::uint64_t length, SegmentList& list);
  void Reindex();

  std::vector<std::unique_ptr<Region>> regions_;
  Index by_guest_;
  Index by_user_;
};

}  // namespace filer::bridge
