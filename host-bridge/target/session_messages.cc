// session_messages.cc: what each vhost-user message does. Sizes, descriptors, negotiated features
// and quiet were seen to by Check and VisitSocket, from the table at the end.
#include <fmt/format.h>

#include <algorithm>

#include "host-bridge/target/session.h"

namespace filer::bridge {

using virtio::VhostRequest;

namespace {

constexpr std::uint64_t kProtocolOffered =
    virtio::kProtocolMultiQueue | virtio::kProtocolReplyAck | virtio::kProtocolBackendRequest |
    virtio::kProtocolConfig | virtio::kProtocolInflight | virtio::kProtocolResetDevice |
    virtio::kProtocolMemorySlots;

template <DiskStruct T>
const T& View(const virtio::VhostMessage& message) {
  return *reinterpret_cast<const T*>(message.payload.data());  // Check held the size to the table
}

std::uint64_t U64(const virtio::VhostMessage& message) {
  return View<virtio::VhostU64>(message).value;
}

RegionSpec SpecOf(const virtio::VhostRegion& wire) {
  RegionSpec spec;
  spec.guest_address = wire.guest_address;
  spec.size_bytes = wire.size_bytes;
  spec.user_address = wire.user_address;
  spec.mmap_offset = wire.mmap_offset;
  return spec;
}

}  // namespace

std::uint64_t Session::OfferedFeatures() const {
  std::uint64_t features = virtio::kFeatureVersion1 | virtio::kFeatureRingIndirect |
                           virtio::kFeatureRingEventIndex | virtio::kFeatureRingPacked |
                           virtio::kFeatureAccessPlatform | virtio::kFeatureVhostProtocolFeatures |
                           virtio::kBlockSegmentsMax | virtio::kBlockBlockSize |
                           virtio::kBlockTopology | virtio::kBlockFlush | virtio::kBlockMultiQueue;
  if (info_.is_read_only) features |= virtio::kBlockReadOnly;
  if (info_.can_discard) features |= virtio::kBlockDiscard;
  if (info_.can_write_zeroes) features |= virtio::kBlockWriteZeroes;
  return features;
}

Result<Session::Ring*> Session::RingAt(std::uint32_t index) {
  if (index >= rings_.size()) return Error(Errc::kProtocol, fmt::format("no queue {}", index));
  return &rings_[index];
}

Result<void> Session::OnGetFeatures(Message&, Reply& reply) {
  reply.SetU64(OfferedFeatures());
  return Ok();
}

Result<void> Session::OnSetFeatures(Message& message, Reply&) {
  const std::uint64_t wanted = U64(message);
  if ((wanted & ~OfferedFeatures()) != 0) {
    return Error(Errc::kProtocol,
                 fmt::format("feature bits {:#x} were not offered", wanted & ~OfferedFeatures()));
  }
  const std::uint64_t changed = features_ ^ wanted;
  const auto is_running = [](const Ring& ring) { return ring.queue != nullptr; };
  if ((changed & virtio::kFeatureRingPacked) != 0 &&
      std::any_of(rings_.begin(), rings_.end(), is_running)) {
    return Error(Errc::kProtocol, "another ring format while queues run");
  }
  features_ = wanted;
  device_.has_discard = (wanted & virtio::kBlockDiscard) != 0;
  device_.has_write_zeroes = (wanted & virtio::kBlockWriteZeroes) != 0;
  device_.needs_write_through = info_.has_volatile_cache && (wanted & virtio::kBlockFlush) == 0;
  space_.UseIotlb((wanted & virtio::kFeatureAccessPlatform) != 0);
  const bool is_always_enabled = (wanted & virtio::kFeatureVhostProtocolFeatures) == 0;
  for (std::uint32_t i = 0; i < rings_.size(); ++i) {
    if (is_always_enabled) rings_[i].is_enabled = true;
    if (changed != 0 && rings_[i].queue != nullptr) {
      rings_[i].needs_translation = true;
      TryStart(i);
    }
  }
  return Ok();
}

Result<void> Session::OnSetOwner(Message&, Reply&) { return Ok(); }

Result<void> Session::OnReset(Message&, Reply&) {
  for (Ring& ring : rings_) {
    if (ring.queue != nullptr) ring.queue->ForgetInflight();
  }
  StopAll();
  for (Ring& ring : rings_) {
    ring.base = 0;
    ring.is_enabled = false;
  }
  space_.iotlb().Clear();
  return Ok();
}

Result<void> Session::OnGetProtocolFeatures(Message&, Reply& reply) {
  reply.SetU64(kProtocolOffered);
  return Ok();
}

Result<void> Session::OnSetProtocolFeatures(Message& message, Reply&) {
  if ((U64(message) & ~kProtocolOffered) != 0) {
    return Error(Errc::kProtocol, "protocol features that were not offered");
  }
  protocol_features_ = U64(message);
  return Ok();
}

Result<void> Session::OnGetQueueNum(Message&, Reply& reply) {
  reply.SetU64(rings_.size());
  return Ok();
}

Result<void> Session::OnGetConfig(Message& message, Reply& reply) {
  const auto& asked = View<virtio::VhostConfig>(message);
  const std::uint32_t offset = asked.offset;
  const std::uint32_t size = asked.size_bytes;
  constexpr std::uint32_t kHeaderBytes = offsetof(virtio::VhostConfig, data);
  if (message.header.payload_bytes != kHeaderBytes + size ||
      offset > virtio::kVhostConfigBytesMax || size > virtio::kVhostConfigBytesMax - offset) {
    return Error(Errc::kProtocol, "configuration space beyond its end");
  }
  virtio::BlockConfig config{};
  config.capacity_sectors = device_.capacity_sectors;
  config.segments_max = kSegmentsOffered;
  config.block_bytes = 512;
  config.physical_block_exponent = 3;
  config.io_bytes_min = 8;  // in blocks: 4 KiB
  config.is_write_back = 1;
  config.queue_count = static_cast<std::uint16_t>(rings_.size());
  config.discard_sectors_max = kDiscardSectorsMax;
  config.discard_segments_max = 1;
  config.discard_alignment_sectors = 8;
  config.write_zeroes_sectors_max = kWriteZeroesSectorsMax;
  config.write_zeroes_segments_max = 1;
  config.write_zeroes_may_unmap = 1;
  std::array<std::byte, virtio::kVhostConfigBytesMax> space{};  // what we do not know is zero
  std::memcpy(space.data(), &config, sizeof(config));

  virtio::VhostConfig answer{};
  answer.offset = offset;
  answer.size_bytes = size;
  answer.flags = std::uint32_t{asked.flags};
  std::memcpy(answer.data, space.data() + offset, size);
  reply.Set(answer);
  reply.bytes = kHeaderBytes + size;
  return Ok();
}

Result<void> Session::OnSetConfig(Message&, Reply&) {
  return Error(Errc::kNotSupported, "the configuration space is read-only");
}

// Off the poller, which has others to serve.
void Session::Retire(MemoryMap::Removed removed) {
  if (removed.empty()) return;
  for (const auto& region : removed) retired_bytes_ += region->spec.size_bytes;
  closer_.Give(std::move(removed));
}

// Memory that is not unmapped yet has its addresses still: they count among the client's.
Result<void> Session::CheckRetired() {
  if (closer_.backlog() == 0) retired_bytes_ = 0;
  if (retired_bytes_ <= kMemoryBytesMax) return Ok();
  return Error(Errc::kTooBig, "memory comes faster than it can be unmapped");
}

Result<void> Session::OnSetMemTable(Message& message, Reply&) {
  const auto& table = View<virtio::VhostMemoryTable>(message);
  const std::uint32_t count = table.region_count;
  if (count > virtio::kVhostTableRegionsMax || message.fd_count != count ||
      message.header.payload_bytes < 8 + sizeof(virtio::VhostRegion) * count) {
    return Error(Errc::kProtocol,
                 fmt::format("{} regions in {} bytes with {} descriptors", count,
                             std::uint32_t{message.header.payload_bytes}, message.fd_count));
  }
  FILER_TRY(CheckRetired());
  auto before = space_.memory().Clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto added = space_.memory().Add(SpecOf(table.regions[i]), message.fds[i]);
    if (!added.has_value()) {
      auto partly = space_.memory().Clear();
      MemoryChanged();
      Retire(std::move(before));
      Retire(std::move(partly));
      return added;
    }
  }
  MemoryChanged();
  Retire(std::move(before));
  return Ok();
}

Result<void> Session::OnGetMaxMemSlots(Message&, Reply& reply) {
  reply.SetU64(kMemoryRegionsMax);
  return Ok();
}

Result<void> Session::OnAddMemReg(Message& message, Reply&) {
  const auto& wire = View<virtio::VhostSingleRegion>(message);
  FILER_TRY(CheckRetired());
  FILER_TRY(space_.memory().Add(SpecOf(wire.region), message.fds[0]));
  MemoryChanged();
  return Ok();
}

Result<void> Session::OnRemMemReg(Message& message, Reply&) {
  const auto& wire = View<virtio::VhostSingleRegion>(message);
  auto removed = FILER_TRY(space_.memory().Remove(SpecOf(wire.region)));
  MemoryChanged();  // nobody looks there any more, nor does the kernel
  Retire(std::move(removed));
  return Ok();
}

Result<void> Session::OnSetVringNum(Message& message, Reply&) {
  const auto& state = View<virtio::VhostVringState>(message);
  Ring& ring = *FILER_TRY(RingAt(state.index));
  const std::uint32_t size = state.value;
  if (size == 0 || size > kQueueSizeMax || (size & (size - 1)) != 0) {
    return Error(Errc::kProtocol, fmt::format("queue size {}", size));
  }
  if (ring.queue != nullptr) return Error(Errc::kProtocol, "queue size of a running queue");
  ring.size = size;
  return Ok();
}

Result<void> Session::OnSetVringAddr(Message& message, Reply&) {
  const auto& address = View<virtio::VhostVringAddress>(message);
  Ring& ring = *FILER_TRY(RingAt(address.index));
  ring.address = address;
  ring.needs_translation = ring.queue != nullptr;
  TryStart(address.index);
  return Ok();
}

Result<void> Session::OnSetVringBase(Message& message, Reply&) {
  const auto& state = View<virtio::VhostVringState>(message);
  Ring& ring = *FILER_TRY(RingAt(state.index));
  const std::uint32_t value = state.value;
  // Of a packed ring the upper half says what was returned: a ring that stood still before has no
  // other place there, and some front ends leave it out.
  if (value > UINT16_MAX && !HasPackedRings()) {
    return Error(Errc::kProtocol, "avail index beyond 16 bits");
  }
  if (ring.queue != nullptr) return Error(Errc::kProtocol, "base of a running queue");
  ring.base = static_cast<std::uint16_t>(value & UINT16_MAX);
  return Ok();
}

Result<void> Session::OnGetVringBase(Message& message, Reply& reply) {
  const auto& state = View<virtio::VhostVringState>(message);
  Ring& ring = *FILER_TRY(RingAt(state.index));
  if (ring.queue != nullptr) ring.queue->ForgetInflight();
  StopRing(ring);
  virtio::VhostVringState answer;
  answer.index = std::uint32_t{state.index};
  const std::uint32_t base = ring.base;
  answer.value = HasPackedRings() ? base | base << 16 : base;
  reply.Set(answer);
  return Ok();
}

// Takes the descriptor of kick, call or err; none came when the message says so.
Result<UniqueFd> Session::TakeEventFd(Message& message) {
  const bool has_no_fd = (U64(message) & virtio::kVringNoFd) != 0;
  if (has_no_fd != (message.fd_count == 0)) {
    return Error(Errc::kProtocol, "descriptor missing, or one too many");
  }
  return std::move(message.fds[0]);
}

Result<void> Session::OnSetVringKick(Message& message, Reply&) {
  const auto index = static_cast<std::uint32_t>(U64(message) & virtio::kVringIndexMask);
  Ring& ring = *FILER_TRY(RingAt(index));
  if (ring.kick.is_open()) waits_.Remove(ring.kick.get());
  ring.kick.Reset();
  ring.kick = FILER_TRY(TakeEventFd(message));
  if (ring.kick.is_open()) {
    FILER_TRY(waits_.Add(ring.kick.get(), {WaitKind::kKick, options_.volume_index, index}));
  }
  ring.has_kick = true;
  TryStart(index);
  return Ok();
}

Result<void> Session::OnSetVringCall(Message& message, Reply&) {
  const auto index = static_cast<std::uint32_t>(U64(message) & virtio::kVringIndexMask);
  Ring& ring = *FILER_TRY(RingAt(index));
  const UniqueFd call = FILER_TRY(TakeEventFd(message));
  if (call.is_open()) return ring.call.Aim(call);
  ring.call.Disarm();
  return Ok();
}

Result<void> Session::OnSetVringErr(Message& message, Reply&) {
  const auto index = static_cast<std::uint32_t>(U64(message) & virtio::kVringIndexMask);
  Ring& ring = *FILER_TRY(RingAt(index));
  ring.error = FILER_TRY(TakeEventFd(message));
  return Ok();
}

Result<void> Session::OnSetVringEnable(Message& message, Reply&) {
  const auto& state = View<virtio::VhostVringState>(message);
  Ring& ring = *FILER_TRY(RingAt(state.index));
  if (state.value > 1) return Error(Errc::kProtocol, "enable is 0 or 1");
  ring.is_enabled = state.value == 1;
  return Ok();
}

Result<void> Session::OnSetBackendReqFd(Message& message, Reply&) {
  if (backend_channel_.is_open()) {
    closer_.Give(std::move(backend_channel_));
    ++closing_channels_;
  }
  backend_channel_ = std::move(message.fds[0]);
  for (Ring& ring : rings_) ring.asked = {};
  for (std::uint32_t i = 0; i < rings_.size(); ++i) TryStart(i);
  return Ok();
}

Result<void> Session::OnIotlb(Message& message, Reply&) {
  const auto& wire = View<virtio::VhostIotlb>(message);
  switch (static_cast<virtio::VhostIotlbType>(wire.type)) {
    case virtio::VhostIotlbType::kUpdate:
      FILER_TRY(
          space_.iotlb().Update(wire.iova, wire.size_bytes, wire.user_address, wire.permission));
      break;
    case virtio::VhostIotlbType::kInvalidate:
      space_.iotlb().Invalidate(wire.iova, wire.size_bytes);
      for (Ring& ring : rings_) ring.needs_translation = ring.queue != nullptr;
      break;
    default:
      return Error(Errc::kProtocol, "unknown type");
  }
  for (std::uint32_t i = 0; i < rings_.size(); ++i) {
    rings_[i].asked = {};
    if (rings_[i].queue != nullptr) rings_[i].queue->RetryMiss();
    TryStart(i);
  }
  return Ok();
}

Result<void> Session::OnGetInflightFd(Message& message, Reply& reply) {
  auto table = View<virtio::VhostInflight>(message);
  const std::uint32_t queue_count = table.queue_count;
  const std::uint32_t queue_size = table.queue_size;
  if (queue_count == 0 || queue_count > rings_.size() || queue_size == 0 ||
      queue_size > kQueueSizeMax) {
    return Error(Errc::kProtocol, fmt::format("{} queues of {}", queue_count, queue_size));
  }
  const std::size_t bytes = InflightBytes(queue_count, queue_size);
  reply.fd = FILER_TRY(CreateInflightFile(bytes));
  table.mmap_size_bytes = bytes;
  table.mmap_offset = 0;
  reply.Set(table);
  const std::uint32_t asked_bytes = message.header.payload_bytes;  // with or without padding
  std::memset(reply.payload.data() + reply.bytes, 0, asked_bytes - reply.bytes);
  reply.bytes = asked_bytes;
  return Ok();
}

Result<void> Session::OnSetInflightFd(Message& message, Reply&) {
  const auto& table = View<virtio::VhostInflight>(message);
  const std::uint32_t queue_count = table.queue_count;
  const std::uint32_t queue_size = table.queue_size;
  if (queue_count == 0 || queue_count > rings_.size() || queue_size == 0 ||
      queue_size > kQueueSizeMax || table.mmap_offset % 64 != 0) {
    return Error(Errc::kProtocol, fmt::format("{} queues of {}", queue_count, queue_size));
  }
  for (const Ring& ring : rings_) {
    if (ring.queue != nullptr) return Error(Errc::kProtocol, "inflight table of a running queue");
  }
  // The size is ours to know: what the table says of itself counts for nothing.
  auto mapped = FILER_TRY(
      MappedFile::Map(message.fds[0], table.mmap_offset, InflightBytes(queue_count, queue_size)));
  std::swap(inflight_file_, mapped);
  if (mapped.is_mapped()) closer_.Give(std::move(mapped));
  inflight_queue_count_ = queue_count;
  inflight_queue_size_ = queue_size;
  return Ok();
}

std::span<const Session::Rule> Session::Rules() {
  using R = VhostRequest;
  using K = DescriptorKind;
  using S = Session;
  constexpr std::uint32_t kU64 = sizeof(virtio::VhostU64);
  constexpr std::uint32_t kState = sizeof(virtio::VhostVringState);
  constexpr std::uint32_t kRegion = sizeof(virtio::VhostSingleRegion);
  constexpr std::uint32_t kInflight = sizeof(virtio::VhostInflight);
  constexpr std::uint32_t kConfigMin = offsetof(virtio::VhostConfig, data);
  static constexpr Rule kRules[] = {
      // request, payload min and max, descriptors min and max and kind, needs quiet, protocol
      // feature
      {R::kGetFeatures, 0, 0, 0, 0, K::kNone, false, 0, &S::OnGetFeatures},
      {R::kSetFeatures, kU64, kU64, 0, 0, K::kNone, true, 0, &S::OnSetFeatures},
      {R::kSetOwner, 0, 0, 0, 0, K::kNone, false, 0, &S::OnSetOwner},
      {R::kResetOwner, 0, 0, 0, 0, K::kNone, true, 0, &S::OnReset},
      {R::kResetDevice, 0, 0, 0, 0, K::kNone, true, virtio::kProtocolResetDevice, &S::OnReset},
      {R::kGetProtocolFeatures, 0, 0, 0, 0, K::kNone, false, 0, &S::OnGetProtocolFeatures},
      {R::kSetProtocolFeatures, kU64, kU64, 0, 0, K::kNone, false, 0, &S::OnSetProtocolFeatures},
      {R::kGetQueueNum, 0, 0, 0, 0, K::kNone, false, virtio::kProtocolMultiQueue,
       &S::OnGetQueueNum},
      {R::kGetConfig, kConfigMin, sizeof(virtio::VhostConfig), 0, 0, K::kNone, false,
       virtio::kProtocolConfig, &S::OnGetConfig},
      {R::kSetConfig, kConfigMin, sizeof(virtio::VhostConfig), 0, 0, K::kNone, false,
       virtio::kProtocolConfig, &S::OnSetConfig},
      {R::kSetMemTable, 8, sizeof(virtio::VhostMemoryTable), 0, virtio::kVhostTableRegionsMax,
       K::kMemory, true, 0, &S::OnSetMemTable},
      {R::kGetMaxMemSlots, 0, 0, 0, 0, K::kNone, false, virtio::kProtocolMemorySlots,
       &S::OnGetMaxMemSlots},
      {R::kAddMemReg, kRegion, kRegion, 1, 1, K::kMemory, true, virtio::kProtocolMemorySlots,
       &S::OnAddMemReg},
      {R::kRemMemReg, kRegion, kRegion, 0, 1, K::kMemory, true, virtio::kProtocolMemorySlots,
       &S::OnRemMemReg},
      {R::kSetVringNum, kState, kState, 0, 0, K::kNone, false, 0, &S::OnSetVringNum},
      {R::kSetVringAddr, sizeof(virtio::VhostVringAddress), sizeof(virtio::VhostVringAddress), 0, 0,
       K::kNone, true, 0, &S::OnSetVringAddr},
      {R::kSetVringBase, kState, kState, 0, 0, K::kNone, false, 0, &S::OnSetVringBase},
      {R::kGetVringBase, kState, kState, 0, 0, K::kNone, true, 0, &S::OnGetVringBase},
      {R::kSetVringKick, kU64, kU64, 0, 1, K::kEvent, true, 0, &S::OnSetVringKick},
      {R::kSetVringCall, kU64, kU64, 0, 1, K::kEvent, false, 0, &S::OnSetVringCall},
      {R::kSetVringErr, kU64, kU64, 0, 1, K::kEvent, false, 0, &S::OnSetVringErr},
      {R::kSetVringEnable, kState, kState, 0, 0, K::kNone, true, 0, &S::OnSetVringEnable},
      {R::kSetBackendReqFd, 0, 0, 1, 1, K::kStream, false, virtio::kProtocolBackendRequest,
       &S::OnSetBackendReqFd},
      {R::kIotlbMessage, sizeof(virtio::VhostIotlb), sizeof(virtio::VhostIotlb), 0, 0, K::kNone,
       true, 0, &S::OnIotlb},
      {R::kGetInflightFd, kInflight, kInflight + 4, 0, 0, K::kNone, false,
       virtio::kProtocolInflight, &S::OnGetInflightFd},
      {R::kSetInflightFd, kInflight, kInflight + 4, 1, 1, K::kMemory, true,
       virtio::kProtocolInflight, &S::OnSetInflightFd},
  };
  return kRules;
}

const Session::Rule* Session::FindRule(std::uint32_t request) {
  for (const Rule& rule : Rules()) {
    if (static_cast<std::uint32_t>(rule.request) == request) return &rule;
  }
  return nullptr;
}

}  // namespace filer::bridge
