#include "host-bridge/target/packed_device_queue.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace filer::bridge {

using virtio::LoadAcquire;
using virtio::LoadOnce;
using virtio::PackedDescriptor;
using virtio::StoreOnce;

void PackedDeviceQueue::Attach(const RingLayout& layout, std::uint16_t position) {
  FILER_ASSERT(layout.packed != nullptr && layout.size > 0 && layout.size <= kQueueSizeMax);
  FILER_ASSERT((position & virtio::kPackedPlaceMask) < layout.size);
  layout_ = layout;
  next_place_ = used_place_ = position & virtio::kPackedPlaceMask;
  next_wrap_ = used_wrap_ = (position & virtio::kPackedPlaceWrap) != 0;
  buffers_.fill({});
  first_ = end_ = taken_ = known_ahead_ = chain_count_ = 0;
  is_suppressed_ = false;
  SuppressNotifications();
}

void PackedDeviceQueue::Advance(std::uint16_t& place, bool& wrap, std::uint32_t count) const {
  const std::uint32_t next = place + count;
  if (next >= layout_.size) wrap = !wrap;
  place = static_cast<std::uint16_t>(next >= layout_.size ? next - layout_.size : next);
}

bool PackedDeviceQueue::IsAvailableAt(std::uint16_t place, bool wrap) const {
  // Pairs with the driver's release store of the flags: the rest of its buffer is there.
  return virtio::IsPackedAvailable(LoadAcquire(layout_.packed[place].flags), wrap);
}

void PackedDeviceQueue::LookAhead() {
  std::uint16_t place = next_place_;
  bool wrap = next_wrap_;
  known_ahead_ = 0;
  while (known_ahead_ < std::min(kLookAhead, layout_.size) && IsAvailableAt(place, wrap)) {
    ++known_ahead_;
    Advance(place, wrap, 1);
  }
}

// From next_place_ on, the first one's flags read already; into chain_.
DeviceQueue::PopResult PackedDeviceQueue::CopyChain(std::uint16_t first_flags, RingFault& fault) {
  std::uint16_t place = next_place_;
  bool wrap = next_wrap_;
  chain_count_ = 0;
  while (true) {
    const PackedDescriptor& shared = layout_.packed[place];
    PackedDescriptor& own = chain_[chain_count_];
    own.address = LoadOnce(shared.address);
    own.length = LoadOnce(shared.length);
    own.id = LoadOnce(shared.id);
    own.flags = chain_count_ == 0 ? first_flags : LoadOnce(shared.flags);
    ++chain_count_;
    if ((own.flags & virtio::kDescriptorNext) == 0) return PopResult::kHead;
    if (chain_count_ == layout_.size || chain_count_ == kChainDescriptorsMax) break;
    Advance(place, wrap, 1);
  }
  fault = RingFault::kChainTooLong;
  return PopResult::kFault;
}

DeviceQueue::PopResult PackedDeviceQueue::Pop(std::uint16_t& id, RingFault& fault) {
  const std::uint16_t flags = LoadAcquire(layout_.packed[next_place_].flags);  // see IsAvailableAt
  if (!virtio::IsPackedAvailable(flags, next_wrap_)) {
    known_ahead_ = 0;
    return PopResult::kEmpty;
  }
  if (known_ahead_ == 0) LookAhead();
  if (CopyChain(flags, fault) == PopResult::kFault) return PopResult::kFault;
  const std::uint16_t candidate = chain_[chain_count_ - 1].id;  // untrusted
  if (candidate >= layout_.size) {
    fault = RingFault::kHeadOutOfRange;
    return PopResult::kFault;
  }
  Buffer& buffer = buffers_[candidate];
  if (buffer.is_busy) {
    fault = RingFault::kHeadInUse;
    return PopResult::kFault;
  }
  if (chain_count_ > layout_.size - taken_) {  // made available again before they were returned
    fault = RingFault::kIndexJumped;
    return PopResult::kFault;
  }
  buffer = {0, next_place_, static_cast<std::uint16_t>(chain_count_), true, false};
  order_[end_++ & kMask] = candidate;
  taken_ += chain_count_;
  known_ahead_ -= std::min(known_ahead_, chain_count_);
  Advance(next_place_, next_wrap_, chain_count_);
  id = candidate;
  return PopResult::kHead;
}

void PackedDeviceQueue::Unpop(std::uint16_t id) {
  Buffer& buffer = buffers_[id];
  FILER_ASSERT(buffer.is_busy && end_ != first_ && order_[(end_ - 1) & kMask] == id);
  if (buffer.place >= next_place_) next_wrap_ = !next_wrap_;  // it went round the end
  next_place_ = buffer.place;
  taken_ -= buffer.count;
  buffer.is_busy = false;
  --end_;
  known_ahead_ = 0;
}

void PackedDeviceQueue::PrefetchNext(const AddressView& space) const {
  const std::byte* host = space.Peek(LoadOnce(layout_.packed[next_place_].address), 1);
  if (host != nullptr) __builtin_prefetch(host);
}

void PackedDeviceQueue::PrefetchFollowing(const AddressView& space) const {
  std::uint16_t place = next_place_;
  bool wrap = next_wrap_;
  for (std::uint32_t i = 0; i < std::min(known_ahead_, kPrefetchCount - 1); ++i) {
    const std::byte* host = space.Peek(LoadOnce(layout_.packed[place].address), 1);
    if (host != nullptr) __builtin_prefetch(host);
    Advance(place, wrap, 1);
  }
}

ChainResult PackedDeviceQueue::ReadChain(std::uint16_t id, const AddressView& space, Chain& chain,
                                         IotlbMiss& miss, RingFault& fault) {
  FILER_ASSERT(chain_count_ > 0 && chain_[chain_count_ - 1].id == id);
  ChainWalk walk{space, chain, miss, fault};
  walk.Begin();
  for (std::uint32_t i = 0; i < chain_count_; ++i) {
    const PackedDescriptor& own = chain_[i];
    if ((own.flags & virtio::kDescriptorIndirect) == 0) {
      const bool is_writable = (own.flags & virtio::kDescriptorWrite) != 0;
      const ChainResult taken = walk.Take(own.address, own.length, is_writable);
      if (taken != ChainResult::kOk) return taken;
      continue;
    }
    const bool has_next = (own.flags & virtio::kDescriptorNext) != 0;
    if (!layout_.has_indirect || has_next) return walk.Fail(RingFault::kIndirectNotAllowed);
    const ChainResult copied =
        walk.CopyTable(own.address, own.length, std::as_writable_bytes(std::span(table_)));
    if (copied != ChainResult::kOk) return copied;
    // Its descriptors follow each other; ids and all flags but WRITE say nothing there (2.8.7).
    for (std::uint32_t at = 0; at < own.length / sizeof(PackedDescriptor); ++at) {
      if ((table_[at].flags & virtio::kDescriptorIndirect) != 0) {
        return walk.Fail(RingFault::kIndirectNotAllowed);
      }
      const bool is_writable = (table_[at].flags & virtio::kDescriptorWrite) != 0;
      const ChainResult taken = walk.Take(table_[at].address, table_[at].length, is_writable);
      if (taken != ChainResult::kOk) return taken;
    }
  }
  walk.End();
  return ChainResult::kOk;
}

bool PackedDeviceQueue::ReadSmallChain(std::uint16_t, const AddressView& space,
                                       SmallChain& chain) const {
  constexpr std::uint16_t kShape = virtio::kDescriptorNext | virtio::kDescriptorIndirect;
  const PackedDescriptor& own = chain_[0];
  PackedDescriptor table[3];
  if (chain_count_ != 1 || (own.flags & kShape) != virtio::kDescriptorIndirect ||
      !layout_.has_indirect || own.length != sizeof(table)) {
    return false;
  }
  const std::byte* host = space.Peek(own.address, sizeof(table));
  if (host == nullptr) return false;
  std::memcpy(table, host, sizeof(table));  // copied once, then only the copy is read
  constexpr std::uint16_t kMeaning = virtio::kDescriptorWrite | virtio::kDescriptorIndirect;
  const std::uint16_t data_flags = table[1].flags & kMeaning;
  const bool has_shape = (table[0].flags & kMeaning) == 0 && table[0].length == 16 &&
                         (data_flags & virtio::kDescriptorIndirect) == 0 && table[1].length != 0 &&
                         (table[2].flags & kMeaning) == virtio::kDescriptorWrite &&
                         table[2].length == 1;
  if (!has_shape) return false;
  chain.is_data_writable = data_flags == virtio::kDescriptorWrite;
  return FindSmallChain(space, table[0].address, table[1].address, table[1].length,
                        table[2].address, chain);
}

void PackedDeviceQueue::PushUsed(std::uint16_t id, std::uint32_t length_bytes) {
  Buffer& buffer = buffers_[id];
  FILER_DCHECK(buffer.is_busy && !buffer.is_done);
  buffer.is_done = true;
  buffer.used_length = length_bytes;
}

bool PackedDeviceQueue::Publish() {
  const std::uint16_t before = position();
  while (HasUnpublished()) {
    const std::uint16_t id = order_[first_++ & kMask];
    Buffer& buffer = buffers_[id];
    PackedDescriptor used{};
    used.length = buffer.used_length;
    used.id = id;
    used.flags = static_cast<std::uint16_t>(virtio::PackedUsedFlags(used_wrap_) |
                                            (used.length > 0 ? virtio::kDescriptorWrite : 0));
    // Length, id and flags in one store. Pairs with the driver's acquire load of the flags: data
    // and status are there.
    static_assert(offsetof(PackedDescriptor, length) == 8);
    std::uint64_t word = 0;
    std::memcpy(&word, reinterpret_cast<const std::byte*>(&used) + 8, sizeof(word));
    auto* at = reinterpret_cast<std::byte*>(&layout_.packed[used_place_]) + 8;
    virtio::StoreRelease(*reinterpret_cast<std::uint64_t*>(at), word);
    Advance(used_place_, used_wrap_, buffer.count);
    taken_ -= buffer.count;
    buffer.is_busy = buffer.is_done = false;
  }
  virtio::FullFence();  // the ring before the event: pairs with the driver's fence after arming
  return WantsInterrupt(before);
}

// Whether what was returned from `before` on passes the place that the driver waits for (2.8.14).
bool PackedDeviceQueue::WantsInterrupt(std::uint16_t before) const {
  const std::uint16_t flags = LoadOnce(layout_.driver_event->flags);
  if (flags == virtio::kPackedEventNever) return false;
  if (flags != virtio::kPackedEventAt || !layout_.has_event_index) return true;
  const std::uint16_t wanted = LoadOnce(layout_.driver_event->place);
  // Places of two laps as one line of numbers: those of the lap that is not the current one lie
  // before it.
  const auto line = [this](std::uint16_t place, bool wrap) {
    return static_cast<std::uint16_t>(place - (wrap != used_wrap_ ? layout_.size : 0));
  };
  const auto split = [&line](std::uint16_t at) {
    return line(at & virtio::kPackedPlaceMask, (at & virtio::kPackedPlaceWrap) != 0);
  };
  return virtio::EventPassed(split(wanted), used_place_, split(before));
}

void PackedDeviceQueue::SuppressNotifications() {
  if (is_suppressed_) return;
  StoreOnce(layout_.device_event->flags, virtio::kPackedEventNever);
  is_suppressed_ = true;
}

void PackedDeviceQueue::ArmNotifications() {
  is_suppressed_ = false;
  if (layout_.has_event_index) {
    StoreOnce(layout_.device_event->place, PositionOf(next_place_, next_wrap_));
    virtio::StoreRelease(layout_.device_event->flags, virtio::kPackedEventAt);
  } else {
    StoreOnce(layout_.device_event->flags, virtio::kPackedEventAlways);
  }
  virtio::FullFence();  // armed before we look once more: pairs with the driver's fence
}

bool PackedDeviceQueue::HasAvailable() const { return IsAvailableAt(next_place_, next_wrap_); }

}  // namespace filer::bridge
