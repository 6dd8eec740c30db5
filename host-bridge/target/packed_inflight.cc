#include "host-bridge/target/packed_inflight.h"

#include "host-bridge/target/inflight.h"

namespace filer::bridge {

using virtio::LoadAcquire;
using virtio::LoadOnce;
using virtio::StoreOnce;
using virtio::StoreRelease;

struct PackedInflightTable::Header {
  std::uint64_t features;
  std::uint16_t version;  // kVersion; 0: never used
  std::uint16_t descriptor_count;
  std::uint16_t position;
  std::uint16_t reserved;
};

namespace {
constexpr std::uint16_t kVersion = 0x5001;  // the protocol's own layout is 1
}

PackedInflightTable::Header* PackedInflightTable::header() const {
  return reinterpret_cast<Header*>(area_);
}
std::uint16_t* PackedInflightTable::counts() const {
  static_assert(sizeof(Header) == 16);
  return reinterpret_cast<std::uint16_t*>(area_ + sizeof(Header));
}

// The position may be older than the ring: its writer was killed in between. What it had returned
// reads as used, or, when the driver has filled it again, as available in the next lap. What it had
// not still reads as available in this one; what nobody has touched, as used in the lap before.
std::uint16_t PackedInflightTable::Recover(const RingLayout& ring, std::uint16_t fallback) {
  Header& table = *header();
  std::uint16_t place = LoadOnce(table.position) & virtio::kPackedPlaceMask;
  bool wrap = (LoadOnce(table.position) & virtio::kPackedPlaceWrap) != 0;
  if (LoadAcquire(table.version) != kVersion || LoadOnce(table.descriptor_count) != queue_size_ ||
      place >= ring.size) {
    for (std::uint32_t i = 0; i < queue_size_; ++i) StoreOnce(counts()[i], std::uint16_t{1});
    StoreOnce(table.descriptor_count, static_cast<std::uint16_t>(queue_size_));
    StoreOnce(table.position, fallback);
    StoreRelease(table.version, kVersion);
    return fallback;
  }
  for (std::uint32_t passed = 0; passed < ring.size;) {
    const std::uint16_t flags = LoadAcquire(ring.packed[place].flags);
    const bool is_used_bit = (flags & virtio::kPackedUsed) != 0;
    if (is_used_bit != wrap) break;
    const std::uint32_t count = LoadOnce(counts()[place]);
    if (count == 0 || count > ring.size - passed) break;
    passed += count;
    const std::uint32_t next = place + count;
    if (next >= ring.size) wrap = !wrap;
    place = static_cast<std::uint16_t>(next >= ring.size ? next - ring.size : next);
  }
  const auto position = static_cast<std::uint16_t>(place | (wrap ? virtio::kPackedPlaceWrap : 0));
  StoreRelease(table.position, position);
  return position;
}

void PackedInflightTable::Take(std::uint16_t place, std::uint16_t count) {
  if (LoadOnce(counts()[place]) != count) StoreOnce(counts()[place], count);
}

void PackedInflightTable::Finish(std::uint16_t position) {
  StoreRelease(header()->position, position);
}

void PackedInflightTable::Forget() { StoreRelease(header()->version, std::uint16_t{0}); }

}  // namespace filer::bridge
