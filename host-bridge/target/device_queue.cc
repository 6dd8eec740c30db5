#include "host-bridge/target/device_queue.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace filer::bridge {

using virtio::Descriptor;
using virtio::LoadAcquire;
using virtio::LoadOnce;
using virtio::StoreOnce;
using virtio::StoreRelease;

namespace {

// Half the index space away from what the driver will publish next: never reached while polling.
constexpr std::uint16_t kEventAway = 0x8000;
constexpr std::uint16_t kEventRefresh = 0x4000;  // move it again after so many entries

}  // namespace

void DeviceQueue::Attach(const RingLayout& layout, std::uint16_t base) {
  FILER_ASSERT(layout.size > 0 && layout.size <= kQueueSizeMax);
  layout_ = layout;
  next_avail_ = known_avail_ = base;
  next_used_ = published_used_ = LoadOnce(layout_.used->index);
  busy_.reset();
  pushed_.fill({});
  is_suppressed_ = false;
  SuppressNotifications();
}

DeviceQueue::PopResult DeviceQueue::Pop(std::uint16_t& head, RingFault& fault) {
  if (known_avail_ == next_avail_) {
    // Pairs with the driver's release store of avail->index: the entries below it are there.
    known_avail_ = LoadAcquire(layout_.avail->index);
    const auto pending = static_cast<std::uint16_t>(known_avail_ - next_avail_);
    if (pending == 0) return PopResult::kEmpty;
    if (pending > layout_.size) {
      known_avail_ = next_avail_;
      fault = RingFault::kIndexJumped;
      return PopResult::kFault;
    }
  }
  const std::uint16_t candidate =
      LoadOnce(layout_.avail->ring[next_avail_ & (layout_.size - 1)]);  // untrusted
  if (candidate >= layout_.size) {
    fault = RingFault::kHeadOutOfRange;
    return PopResult::kFault;
  }
  if (busy_[candidate]) {
    fault = RingFault::kHeadInUse;
    return PopResult::kFault;
  }
  busy_[candidate] = true;
  ++next_avail_;  // free-running, wraps at 2^16
  head = candidate;
  return PopResult::kHead;
}

void DeviceQueue::PrefetchChainAt(std::uint32_t place, const AddressView& space) const {
  const std::uint32_t mask = layout_.size - 1;
  const std::uint16_t head = LoadOnce(layout_.avail->ring[place & mask]);
  const std::byte* host = space.Peek(LoadOnce(layout_.descriptors[head & mask].address), 1);
  if (host != nullptr) __builtin_prefetch(host);
}

void DeviceQueue::PrefetchFollowing(const AddressView& space) const {
  const std::uint32_t count = std::min(Pending(), kPrefetchCount - 1);
  for (std::uint32_t i = 0; i < count; ++i) PrefetchChainAt(next_avail_ + i, space);
}

void DeviceQueue::PrefetchNext(const AddressView& space) const {
  PrefetchChainAt(next_avail_, space);
}

void DeviceQueue::Unpop(std::uint16_t head) {
  FILER_ASSERT(busy_[head]);
  busy_[head] = false;
  --next_avail_;
  known_avail_ = next_avail_;  // read the index again: the rest of the batch is still there
}

bool DeviceQueue::Claim(std::uint16_t head) {
  if (head >= layout_.size || busy_[head]) return false;
  busy_[head] = true;
  return true;
}

DeviceQueue::ReadResult DeviceQueue::ReadIndirect(const Descriptor& table, ChainWalk& walk) {
  const ReadResult copied =
      walk.CopyTable(table.address, table.length, std::as_writable_bytes(std::span(table_)));
  if (copied != ReadResult::kOk) return copied;
  const std::uint32_t count = table.length / sizeof(Descriptor);
  std::uint32_t at = 0;
  for (std::uint32_t walked = 0; walked < count; ++walked) {
    const Descriptor& descriptor = table_[at];
    if ((descriptor.flags & virtio::kDescriptorIndirect) != 0) {
      return walk.Fail(RingFault::kIndirectNotAllowed);
    }
    const bool is_writable = (descriptor.flags & virtio::kDescriptorWrite) != 0;
    const ReadResult taken = walk.Take(descriptor.address, descriptor.length, is_writable);
    if (taken != ReadResult::kOk) return taken;
    if ((descriptor.flags & virtio::kDescriptorNext) == 0) return ReadResult::kOk;
    if (descriptor.next >= count) return walk.Fail(RingFault::kNextOutOfRange);
    at = descriptor.next;
  }
  return walk.Fail(RingFault::kChainTooLong);
}

bool DeviceQueue::ReadSmallChain(std::uint16_t head, const AddressView& space,
                                 SmallChain& chain) const {
  const Descriptor& shared = layout_.descriptors[head];
  const std::uint64_t address = LoadOnce(shared.address);
  const std::uint32_t length = LoadOnce(shared.length);
  const std::uint16_t flags = LoadOnce(shared.flags);
  if (!layout_.has_indirect || flags != virtio::kDescriptorIndirect) return false;
  Descriptor table[3];
  if (length != sizeof(table)) return false;
  const std::byte* host = space.Peek(address, sizeof(table));
  if (host == nullptr) return false;
  std::memcpy(table, host, sizeof(table));  // copied once, then only the copy is read
  const std::uint16_t data_flags = table[1].flags;
  const bool has_shape =
      table[0].flags == virtio::kDescriptorNext && table[0].next == 1 && table[0].length == 16 &&
      (data_flags & ~virtio::kDescriptorWrite) == virtio::kDescriptorNext && table[1].next == 2 &&
      table[1].length != 0 && table[2].flags == virtio::kDescriptorWrite && table[2].length == 1;
  if (!has_shape) return false;
  if (!FindSmallChain(space, table[0].address, table[1].address, table[1].length, table[2].address,
                      chain)) {
    return false;
  }
  chain.is_data_writable = data_flags != virtio::kDescriptorNext;
  return true;
}

DeviceQueue::ReadResult DeviceQueue::ReadChain(std::uint16_t head, const AddressView& space,
                                               Chain& chain, IotlbMiss& miss, RingFault& fault) {
  ChainWalk walk{space, chain, miss, fault};
  walk.Begin();
  std::uint32_t at = head;
  for (std::uint32_t walked = 0;; ++walked) {
    if (walked == layout_.size || walked == kChainDescriptorsMax) {
      return walk.Fail(RingFault::kChainTooLong);
    }
    const Descriptor& shared = layout_.descriptors[at];
    Descriptor descriptor;  // each field read once
    descriptor.address = LoadOnce(shared.address);
    descriptor.length = LoadOnce(shared.length);
    descriptor.flags = LoadOnce(shared.flags);
    descriptor.next = LoadOnce(shared.next);

    const bool has_next = (descriptor.flags & virtio::kDescriptorNext) != 0;
    const bool is_indirect = (descriptor.flags & virtio::kDescriptorIndirect) != 0;
    if (is_indirect && (!layout_.has_indirect || has_next)) {
      return walk.Fail(RingFault::kIndirectNotAllowed);
    }
    const bool is_writable = (descriptor.flags & virtio::kDescriptorWrite) != 0;
    const ReadResult taken = is_indirect
                                 ? ReadIndirect(descriptor, walk)
                                 : walk.Take(descriptor.address, descriptor.length, is_writable);
    if (taken != ReadResult::kOk) return taken;
    if (!has_next) break;
    if (descriptor.next >= layout_.size) return walk.Fail(RingFault::kNextOutOfRange);
    at = descriptor.next;
  }
  walk.End();
  return ReadResult::kOk;
}

void DeviceQueue::PushUsed(std::uint16_t head, std::uint32_t length_bytes) {
  FILER_DCHECK(busy_[head]);
  busy_[head] = false;
  const std::uint32_t place = next_used_++ & (layout_.size - 1);
  virtio::UsedElement& known = pushed_[place];
  // Where it is to go, chosen without a branch: in a mix of reads and writes none can be foreseen.
  const bool is_there = (known.id == head) & (known.length == length_bytes) & (length_bytes != 0);
  known = {head, length_bytes};
  virtio::UsedElement aside;
  virtio::UsedElement* const places[] = {&layout_.used->ring[place], &aside};
  virtio::UsedElement& element = *places[is_there ? 1 : 0];
  StoreOnce(element.id, static_cast<std::uint32_t>(head));
  StoreOnce(element.length, length_bytes);
}

bool DeviceQueue::Publish() {
  const std::uint16_t before = published_used_;
  // Pairs with the driver's acquire load of used->index: elements, data and status are there.
  StoreRelease(layout_.used->index, next_used_);
  published_used_ = next_used_;
  virtio::FullFence();  // the index before the event: pairs with the driver's fence after arming
  if (!layout_.has_event_index) {
    return (LoadOnce(layout_.avail->flags) & virtio::kAvailNoInterrupt) == 0;
  }
  const std::uint16_t event = LoadOnce(*virtio::UsedEvent(layout_.avail, layout_.size));
  return virtio::EventPassed(event, next_used_, before);
}

void DeviceQueue::SuppressNotifications() {
  if (!layout_.has_event_index) {
    if (!is_suppressed_) StoreOnce(layout_.used->flags, virtio::kUsedNoNotify);
    is_suppressed_ = true;
    return;
  }
  if (is_suppressed_ && static_cast<std::uint16_t>(next_avail_ - event_base_) < kEventRefresh) {
    return;
  }
  event_base_ = next_avail_;
  StoreOnce(*virtio::AvailEvent(layout_.used, layout_.size),
            static_cast<std::uint16_t>(next_avail_ + kEventAway));
  is_suppressed_ = true;
}

void DeviceQueue::ArmNotifications() {
  is_suppressed_ = false;
  if (layout_.has_event_index) {
    StoreOnce(*virtio::AvailEvent(layout_.used, layout_.size), next_avail_);
  } else {
    StoreOnce(layout_.used->flags, std::uint16_t{0});
  }
  virtio::FullFence();  // armed before we look once more: pairs with the driver's fence
}

bool DeviceQueue::HasAvailable() const { return LoadAcquire(layout_.avail->index) != next_avail_; }

}  // namespace filer::bridge
