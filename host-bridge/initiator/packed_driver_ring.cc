#include "host-bridge/initiator/packed_driver_ring.h"

#include <cstring>

namespace filer::bridge {

using virtio::LoadOnce;
using virtio::PackedDescriptor;
using virtio::StoreOnce;

namespace {

// Length, id and flags lie in one word, which is written and read in one piece.
static_assert(offsetof(PackedDescriptor, length) == 8 && sizeof(PackedDescriptor) == 16);

std::uint64_t& WordOf(PackedDescriptor& descriptor) {
  return *reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(&descriptor) + 8);
}

void Write(PackedDescriptor& shared, const PackedDescriptor& own) {
  std::uint64_t word = 0;
  std::memcpy(&word, reinterpret_cast<const std::byte*>(&own) + 8, sizeof(word));
  StoreOnce(shared.address, own.address);
  virtio::StoreRelease(WordOf(shared), word);  // pairs with the device's acquire load of the flags
}

}  // namespace

void PackedDriverRing::Advance(std::uint16_t& place, bool& wrap, std::uint32_t count) const {
  const std::uint32_t next = place + count;
  if (next >= memory_.size) wrap = !wrap;
  place = static_cast<std::uint16_t>(next >= memory_.size ? next - memory_.size : next);
}

void PackedDriverRing::Offer(std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                             std::uint16_t id) {
  const PackedDescriptor descriptor = {
      address, length, id,
      static_cast<std::uint16_t>(flags | virtio::PackedAvailableFlags(next_wrap_))};
  if (has_first_) {
    Write(memory_.ring[next_place_], descriptor);
  } else {
    first_ = descriptor;
    first_place_ = next_place_;
    first_wrap_ = next_wrap_;
    has_first_ = true;
  }
  Advance(next_place_, next_wrap_, 1);
}

bool PackedDriverRing::Publish() {
  if (!has_first_) return false;
  has_first_ = false;
  Write(memory_.ring[first_place_], first_);
  // Before we look whether the device sleeps; it looks at the ring once more after it said so.
  virtio::FullFence();
  const std::uint16_t flags = LoadOnce(memory_.device_event->flags);
  if (flags == virtio::kPackedEventNever) return false;
  if (flags != virtio::kPackedEventAt || !memory_.has_event_index) return true;
  // Places of two laps as one line of numbers: those of another lap than next_wrap_'s lie before.
  const auto line = [this](std::uint16_t place, bool wrap) {
    return static_cast<std::uint16_t>(place - (wrap != next_wrap_ ? memory_.size : 0));
  };
  const std::uint16_t wanted = LoadOnce(memory_.device_event->place);
  return virtio::EventPassed(
      line(wanted & virtio::kPackedPlaceMask, (wanted & virtio::kPackedPlaceWrap) != 0),
      next_place_, line(first_place_, first_wrap_));
}

PackedDescriptor PackedDriverRing::PeekUsed() const {
  // Pairs with the device's release store: data and status are there.
  const std::uint64_t word = virtio::LoadAcquire(WordOf(memory_.ring[used_place_]));
  PackedDescriptor used{};
  std::memcpy(reinterpret_cast<std::byte*>(&used) + 8, &word, sizeof(word));
  return used;
}

void PackedDriverRing::QuietInterrupts() {
  StoreOnce(memory_.driver_event->flags, virtio::kPackedEventNever);
}

void PackedDriverRing::Restart() {
  for (std::uint32_t i = 0; i < memory_.size; ++i) memory_.ring[i] = {};
  next_place_ = used_place_ = 0;
  next_wrap_ = used_wrap_ = true;
  has_first_ = false;
}

}  // namespace filer::bridge
