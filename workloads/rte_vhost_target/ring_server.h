// ring_server.h: one split virtqueue of a block device, served the shortest way: what a target on
// DPDK's vhost library does, without the care for hostile drivers that host-bridge takes. For the
// benchmark, whose driver is ours. Threads: one, from Create to destruction.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "host-bridge/backend/backend.h"
#include "host-bridge/virtio/ring.h"

namespace filer::bench {

struct RingPlace {
  virtio::Descriptor* descriptors = nullptr;
  virtio::AvailRing* avail = nullptr;
  virtio::UsedRing* used = nullptr;
  std::uint32_t size = 0;  // power of two
  bool has_event_index = false;
  std::uint16_t next_avail = 0;
  std::uint16_t next_used = 0;
};

// Guest address to a pointer to `length` bytes in one piece, or nullptr.
using Translator = std::function<std::byte*(std::uint64_t address, std::uint64_t length)>;

class RingServer {
 public:
  // Errors: the backend's.
  static Result<std::unique_ptr<RingServer>> Create(const RingPlace& place, Translator translate,
                                                    bridge::Backend& backend, int call_fd);
  // True when it did something. Errors: kProtocol for a chain it does not understand; it takes
  // nothing more then.
  Result<bool> Round();
  void SetMemory(std::span<const iovec> regions) { backend_->SetMemory(regions); }
  std::uint32_t in_flight() const { return in_flight_; }
  std::uint16_t next_avail() const { return place_.next_avail; }
  std::uint16_t next_used() const { return place_.next_used; }

 private:
  static constexpr std::uint32_t kSegmentsMax = 128;
  struct Slot {
    std::vector<iovec> segments;  // reserved once
    std::uint8_t* status = nullptr;
    std::uint32_t used_length = 0;
  };
  RingServer(const RingPlace& place, Translator translate, std::uint64_t size_bytes, int call_fd);
  Result<void> Take(std::uint16_t head);
  Result<void> Walk(std::uint16_t head, Slot& slot);
  void Return(std::uint16_t head, std::uint8_t status);
  void Publish(std::uint16_t before);
  void QuietKicks();

  RingPlace place_;
  Translator translate_;
  std::uint64_t size_bytes_;
  int call_fd_;
  std::unique_ptr<bridge::BackendQueue> backend_;
  std::vector<Slot> slots_;
  std::uint32_t in_flight_ = 0;
  std::uint16_t quiet_at_ = 0;
  bool is_broken_ = false;
};

}  // namespace filer::bench
