// packed_inflight.h: what a successor of a killed target must know of a packed ring, in the memory
// that the front end keeps (vhost-user, "Inflight I/O tracking"). Buffers are returned in the order
// of the ring (packed_device_queue.h), so that is a position, and the length of each buffer that
// was taken after it. The layout is our own, and fits into the room of a split ring's table.
//
// The front end could write to it: every value is checked.
// Threads: the poller of its queue.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host-bridge/target/device_queue.h"

namespace filer::bridge {

class PackedInflightTable {
 public:
  PackedInflightTable() = default;
  // `area`: as InflightTable's, for `queue_size`.
  PackedInflightTable(std::byte* area, std::uint32_t queue_size)
      : area_(area), queue_size_(queue_size) {}
  bool is_used() const { return area_ != nullptr; }

  // The position from which `ring` is to be taken over (PackedDeviceQueue::Attach). `fallback`, and
  // a new table, when there was none.
  std::uint16_t Recover(const RingLayout& ring, std::uint16_t fallback);

  // A buffer of `count` descriptors was popped at `place`. Before it can be returned.
  void Take(std::uint16_t place, std::uint16_t count);
  // Everything before `position` was returned.
  void Finish(std::uint16_t position);
  // The front end knows where the ring stands, and will say it: the table begins anew then.
  void Forget();

 private:
  struct Header;
  Header* header() const;
  std::uint16_t* counts() const;  // by place

  std::byte* area_ = nullptr;
  std::uint32_t queue_size_ = 0;
};

}  // namespace filer::bridge
