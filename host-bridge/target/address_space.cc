#include "host-bridge/target/address_space.h"

#include <algorithm>

namespace filer::bridge {

Result<void> Iotlb::Update(std::uint64_t iova, std::uint64_t size_bytes, std::uint64_t user_address,
                           std::uint8_t permission) {
  std::uint64_t last = 0;
  if (size_bytes == 0 || __builtin_add_overflow(iova, size_bytes - 1, &last)) {
    return Error(Errc::kBadAddress, "IOTLB entry is empty or wraps around");
  }
  if ((iova | size_bytes | user_address) % kIotlbPageBytes != 0) {
    return Error(Errc::kBadAddress, "IOTLB entry of parts of pages");
  }
  if (entries_.size() >= kIotlbEntriesMax) entries_.clear();
  Erase(iova, last);
  const auto at = std::lower_bound(
      entries_.begin(), entries_.end(), iova,
      [](const Entry& entry, std::uint64_t address) { return entry.begin < address; });
  entries_.insert(at, {iova, last, user_address, permission});
  return Ok();
}

void Iotlb::Invalidate(std::uint64_t iova, std::uint64_t size_bytes) {
  if (size_bytes == 0) return;
  std::uint64_t last = 0;
  if (__builtin_add_overflow(iova, size_bytes - 1, &last)) last = UINT64_MAX;
  Erase(iova, last);
}

void Iotlb::Erase(std::uint64_t begin, std::uint64_t last) {
  // What overlaps goes as a whole: forgetting too much only costs another miss.
  std::erase_if(entries_,
                [&](const Entry& entry) { return entry.begin <= last && begin <= entry.last; });
}

const Iotlb::Entry* Iotlb::Find(std::uint64_t iova) const {
  auto after = std::upper_bound(
      entries_.begin(), entries_.end(), iova,
      [](std::uint64_t address, const Entry& entry) { return address < entry.begin; });
  if (after == entries_.begin()) return nullptr;
  --after;
  return iova <= after->last ? &*after : nullptr;
}

TranslateStatus AddressView::TranslateIova(std::uint64_t address, std::uint64_t length,
                                           std::uint8_t permission, SegmentList& list,
                                           IotlbMiss& miss) const {
  std::uint64_t last = 0;
  if (length == 0 || __builtin_add_overflow(address, length - 1, &last)) {
    return TranslateStatus::kBadAddress;
  }
  while (true) {
    const Iotlb::Entry* entry = space_.iotlb().Find(address);
    if (entry == nullptr || (entry->permission & permission) != permission) {
      miss = {address, permission};
      return TranslateStatus::kMiss;
    }
    const std::uint64_t piece_last = std::min(last, entry->last);
    const std::uint64_t user_address = entry->user_address + (address - entry->begin);
    const TranslateStatus status =
        space_.memory().TranslateUser(user_address, piece_last - address + 1, list, window_);
    if (status != TranslateStatus::kOk) return status;
    if (piece_last == last) return TranslateStatus::kOk;
    address = piece_last + 1;
  }
}

}  // namespace filer::bridge
