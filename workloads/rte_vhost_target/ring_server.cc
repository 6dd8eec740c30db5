#include "workloads/rte_vhost_target/ring_server.h"

#include <sys/eventfd.h>

#include <array>
#include <bit>

#include "base/units.h"
#include "host-bridge/virtio/block.h"

namespace filer::bench {

using bridge::BackendCompletion;
using bridge::BackendOperation;
using virtio::Descriptor;
using virtio::LoadAcquire;
using virtio::LoadOnce;
using virtio::StoreOnce;
using virtio::StoreRelease;

namespace {
constexpr std::uint16_t kEventAway = 0x8000;     // the driver's index does not come near it
constexpr std::uint16_t kEventRefresh = 0x4000;  // entries after which it is moved on
}  // namespace

RingServer::RingServer(const RingPlace& place, Translator translate, std::uint64_t size_bytes,
                       int call_fd)
    : place_(place),
      translate_(std::move(translate)),
      size_bytes_(size_bytes),
      call_fd_(call_fd),
      slots_(place.size) {
  for (Slot& slot : slots_) slot.segments.reserve(kSegmentsMax);
}

Result<std::unique_ptr<RingServer>> RingServer::Create(const RingPlace& place, Translator translate,
                                                       bridge::Backend& backend, int call_fd) {
  if (!std::has_single_bit(place.size)) return Error(Errc::kProtocol, "ring is no power of two");
  std::unique_ptr<RingServer> server(
      new RingServer(place, std::move(translate), backend.Info().size_bytes, call_fd));
  server->backend_ = FILER_TRY(backend.OpenQueue(place.size));
  server->QuietKicks();
  return server;
}

void RingServer::QuietKicks() {
  quiet_at_ = place_.next_avail;
  if (place_.has_event_index) {
    StoreOnce(*virtio::AvailEvent(place_.used, place_.size),
              static_cast<std::uint16_t>(quiet_at_ + kEventAway));
  } else {
    StoreOnce(place_.used->flags, virtio::kUsedNoNotify);
  }
}

Result<bool> RingServer::Round() {
  const std::uint16_t published = LoadAcquire(place_.avail->index);
  const std::uint16_t used_before = place_.next_used;
  bool did_work = false;
  while (!is_broken_ && place_.next_avail != published) {
    const std::uint16_t head = LoadOnce(place_.avail->ring[place_.next_avail & (place_.size - 1)]);
    auto taken = Take(head);
    if (taken.has_error()) {
      is_broken_ = true;
      return taken.error();
    }
    ++place_.next_avail;
    did_work = true;
  }
  if (static_cast<std::uint16_t>(place_.next_avail - quiet_at_) >= kEventRefresh) QuietKicks();
  if (in_flight_ > 0) {
    backend_->Kick();
    std::array<BackendCompletion, 64> completions;
    std::size_t count = 0;
    do {
      count = backend_->Poll(completions);
      for (std::size_t i = 0; i < count; ++i) {
        Return(static_cast<std::uint16_t>(completions[i].cookie),
               completions[i].is_ok ? virtio::kStatusOk : virtio::kStatusIoError);
      }
    } while (count == completions.size());
  }
  if (place_.next_used != used_before) {
    Publish(used_before);
    did_work = true;
  }
  return did_work;
}

// Header first, status last, data between them: all that the initiator sends for a transfer.
Result<void> RingServer::Walk(std::uint16_t head, Slot& slot) {
  const Error not_understood(Errc::kProtocol, "a chain that this target does not understand");
  const Descriptor* table = place_.descriptors;
  std::uint32_t count = place_.size;
  std::uint32_t at = head;
  if (head >= place_.size) return not_understood;
  if ((table[at].flags & virtio::kDescriptorIndirect) != 0) {
    const Descriptor& outer = table[at];
    table = reinterpret_cast<const Descriptor*>(translate_(outer.address, outer.length));
    count = outer.length / sizeof(Descriptor);
    at = 0;
    if (table == nullptr || count == 0) return not_understood;
  }
  slot.segments.clear();
  for (std::uint32_t walked = 0; walked < kSegmentsMax; ++walked) {
    const Descriptor& descriptor = table[at];
    std::byte* host = translate_(descriptor.address, descriptor.length);
    if (host == nullptr) return not_understood;
    slot.segments.push_back({host, descriptor.length});
    if ((descriptor.flags & virtio::kDescriptorNext) == 0) return Ok();
    at = descriptor.next;
    if (at >= count) return not_understood;
  }
  return not_understood;
}

Result<void> RingServer::Take(std::uint16_t head) {
  Slot& slot = slots_[head < place_.size ? head : 0];
  FILER_TRY(Walk(head, slot));
  auto& pieces = slot.segments;
  if (pieces.size() < 2 || pieces.front().iov_len != sizeof(virtio::RequestHeader) ||
      pieces.back().iov_len != 1) {
    return Error(Errc::kProtocol, "no header and status where they are expected");
  }
  const auto* header = static_cast<const virtio::RequestHeader*>(pieces.front().iov_base);
  slot.status = static_cast<std::uint8_t*>(pieces.back().iov_base);
  bridge::BackendRequest request{};
  request.offset_bytes = std::uint64_t{header->sector} * kSectorBytes;
  request.segments = std::span<const iovec>(pieces).subspan(1, pieces.size() - 2);
  for (const iovec& piece : request.segments) request.length_bytes += piece.iov_len;
  request.cookie = head;
  slot.used_length = 1;
  ++in_flight_;
  switch (header->type) {
    case virtio::kRequestIn:
      request.operation = BackendOperation::kRead;
      slot.used_length += static_cast<std::uint32_t>(request.length_bytes);
      break;
    case virtio::kRequestOut:
      request.operation = BackendOperation::kWrite;
      break;
    case virtio::kRequestFlush:
      request.operation = BackendOperation::kFlush;
      break;
    default:
      Return(head, virtio::kStatusUnsupported);
      return Ok();
  }
  const bool is_inside = request.offset_bytes <= size_bytes_ &&
                         request.length_bytes <= size_bytes_ - request.offset_bytes;
  if (!is_inside || !backend_->Queue(request)) Return(head, virtio::kStatusIoError);
  return Ok();
}

void RingServer::Return(std::uint16_t head, std::uint8_t status) {
  const Slot& slot = slots_[head];
  StoreOnce(*slot.status, status);
  virtio::UsedElement& element = place_.used->ring[place_.next_used & (place_.size - 1)];
  element.id = head;
  element.length = slot.used_length;
  ++place_.next_used;
  --in_flight_;
}

void RingServer::Publish(std::uint16_t before) {
  StoreRelease(place_.used->index, place_.next_used);  // pairs with the driver's acquire load
  virtio::FullFence();
  const bool is_wanted =
      place_.has_event_index
          ? virtio::EventPassed(LoadOnce(*virtio::UsedEvent(place_.avail, place_.size)),
                                place_.next_used, before)
          : (LoadOnce(place_.avail->flags) & virtio::kAvailNoInterrupt) == 0;
  if (is_wanted && call_fd_ >= 0) ::eventfd_write(call_fd_, 1);
}

}  // namespace filer::bench
