#include "host-bridge/target/session.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "host-bridge/target/borrowed_queues.h"

namespace filer::bridge {

using virtio::VhostRequest;

Session::Session(UniqueFd socket, const SessionOptions& options, Backend& backend,
                 VolumeCounters& counters, WaitSet& waits, Closer& closer, PeerLog& log,
                 Budget& registrations)
    : socket_(std::move(socket)),
      options_(options),
      backend_(backend),
      info_(backend.Info()),
      counters_(counters),
      waits_(waits),
      closer_(closer),
      log_(log),
      registrations_(registrations),
      rings_(options.queue_count_max) {
  device_.capacity_sectors = info_.size_bytes / 512;
  device_.is_read_only = info_.is_read_only;
  device_.serial = options_.volume_name;
  counters_.sessions.Add(1);
}

Session::~Session() {
  for (const Ring& ring : rings_) FILER_ASSERT(ring.queue == nullptr);
}

void Session::Leave() {
  FILER_ASSERT(IsFinished());
  StopAll();
}

bool Session::IsQuiet() const {
  return away_count_ == 0 && std::all_of(rings_.begin(), rings_.end(), [](const Ring& ring) {
           return ring.queue == nullptr || ring.queue->in_flight() == 0;
         });
}

// Other messages, too, may change what a queue that is away uses; they are rare, and it comes back
// within a round.
bool Session::MayExecute(const Message& message) const {
  return FindRule(message.header.request)->needs_quiet ? IsQuiet() : away_count_ == 0;
}

void Session::End(const Error& reason) {
  if (is_ending_) return;
  is_ending_ = true;
  if (waiting_) closer_.Give(std::move(*waiting_));
  waiting_.reset();
  if (reason == Errc::kDeviceGone || reason == Errc::kShuttingDown) {
    log_.Info("client left");
  } else {
    counters_.protocol_errors.Add(1);
    log_.Warn("session ended: " + reason.message());
  }
  CallHome();
  UpdateAccepting();
}

void Session::CheckMemory() {
  if (HasBrokenMemory()) {
    End(Error(Errc::kProtocol, "the client truncated its shared memory"));
  }
}

bool Session::VisitSocket() {
  bool did_work = false;
  if (must_announce_) AnnounceConfig();
  if (closer_.backlog() == 0) closing_channels_ = 0;
  if (closing_channels_ > kClosingMax || closer_.backlog() > kClosingBacklogMax) {
    End(Error(Errc::kProtocol, "descriptors come faster than they can be closed"));
  }
  for (std::uint32_t i = 0; i < kMessagesPerVisitMax && !is_ending_ && !waiting_; ++i) {
    auto complete = receiver_.Advance(socket_.get(), MSG_DONTWAIT);
    if (!complete.has_value()) {
      End(complete.assume_error());
      return true;
    }
    if (!complete.assume_value()) break;
    did_work = true;
    waiting_ = receiver_.Take();
    const auto checked = Check(*waiting_);
    if (!checked.has_value()) {
      End(checked.assume_error());
      break;
    }
    if (!MayExecute(*waiting_)) {
      CallHome();
      UpdateAccepting();
      break;  // Round goes on with it
    }
    Message message = std::move(*waiting_);
    waiting_.reset();
    Execute(message);
  }
  return did_work;
}

Result<void> Session::Check(const Message& message) const {
  const Rule* rule = FindRule(message.header.request);
  const auto name = virtio::VhostRequestName(message.header.request);
  if (rule == nullptr) {
    return Error(Errc::kProtocol,
                 fmt::format("unknown {} {}", name, std::uint32_t{message.header.request}));
  }
  const std::uint32_t bytes = message.header.payload_bytes;
  if (bytes < rule->payload_bytes_min || bytes > rule->payload_bytes_max) {
    return Error(Errc::kProtocol, fmt::format("{} with {} bytes", name, bytes));
  }
  if (message.fd_count < rule->fds_min || message.fd_count > rule->fds_max) {
    return Error(Errc::kProtocol, fmt::format("{} with {} descriptors", name, message.fd_count));
  }
  for (std::size_t i = 0; i < message.fd_count; ++i) {
    if (IsOfKind(message.fds[i].get(), rule->fd_kind)) continue;
    return Error(Errc::kProtocol,
                 fmt::format("{}: descriptor is no {}", name, DescriptorKindText(rule->fd_kind)));
  }
  if (rule->protocol_feature != 0 && !HasProtocol(rule->protocol_feature)) {
    return Error(Errc::kProtocol, fmt::format("{} was not negotiated", name));
  }
  return Ok();
}

void Session::Execute(Message& message) {
  const Rule* rule = FindRule(message.header.request);
  Reply reply;
  const Result<void> result = (this->*rule->handler)(message, reply);
  const auto answered = Answer(message, result, reply);
  // What nobody took may be the last descriptor of a file of memory, which takes its time to close;
  // not where the file was mapped.
  const auto is_left = [](const UniqueFd& fd) { return fd.is_open(); };
  const bool is_mapped =
      result.has_value() &&
      message.header.request != static_cast<std::uint32_t>(VhostRequest::kRemMemReg);
  if (!is_mapped && std::any_of(message.fds.begin(), message.fds.end(), is_left)) {
    closer_.Give(std::move(message));
  }
  if (!answered.has_value()) End(answered.assume_error());
  UpdateAccepting();
}

Result<void> Session::Answer(const Message& message, const Result<void>& result, Reply& reply) {
  const auto name = virtio::VhostRequestName(message.header.request);
  const bool is_acknowledged =
      (message.header.flags & virtio::kVhostNeedReply) != 0 &&
      (HasProtocol(virtio::kProtocolReplyAck) ||
       message.header.request == static_cast<std::uint32_t>(VhostRequest::kIotlbMessage));
  if (!result.has_value()) {
    const Error& error = result.assume_error();
    if (!is_acknowledged || error == Errc::kProtocol) {
      return Error(Errc::kProtocol, fmt::format("{}: {}", name, error.message()));
    }
    log_.Warn(fmt::format("{} refused: {}", name, error.message()));
    reply.SetU64(1);
  } else if (is_acknowledged && !reply.is_set) {
    reply.SetU64(0);
  }
  if (!reply.is_set) return Ok();
  virtio::VhostHeader header;
  header.request = message.header.request;
  header.flags = virtio::kVhostVersion | virtio::kVhostReply;
  header.payload_bytes = reply.bytes;
  const int fd = reply.fd.get();
  return virtio::SendVhostMessage(socket_.get(), header,
                                  std::span(reply.payload).first(reply.bytes),
                                  std::span(&fd, reply.fd.is_open() ? 1 : 0), MSG_DONTWAIT);
}

bool Session::Round() {
  bool did_work = false;
  const auto count = static_cast<std::uint32_t>(rings_.size());
  const bool is_limited = options_.limiter != nullptr && options_.limiter->is_limited();
  const std::uint32_t first = first_ring_ < count ? first_ring_ : 0;
  std::uint64_t work = 0;
  for (std::uint32_t at = 0; at < count; ++at) {
    const std::uint32_t i = first + at < count ? first + at : first + at - count;
    Ring& ring = rings_[i];
    if (ring.queue == nullptr || ring.is_away) continue;
    const bool has_worked = ring.queue->Round();
    // What the limits let through goes first to the queue behind the one that had it first now.
    if (is_limited && has_worked && !did_work) first_ring_ = i + 1;
    did_work |= has_worked;
    work += ring.queue->round_work();
    if (ring.queue->fault() != RingFault::kNone && !ring.is_broken) ReportFault(i);
    if (const IotlbMiss* miss = ring.queue->miss(); miss != nullptr) AskForMiss(ring, *miss);
    if (work < kRoundBytesMax) continue;
    first_ring_ = i + 1;  // the others' turn, in the next round; now it is that of other clients
    break;
  }
  if (waiting_ && MayExecute(*waiting_)) {
    Message message = std::move(*waiting_);
    waiting_.reset();
    Execute(message);
    did_work = true;
  }
  return did_work;
}

bool Session::ArmAndCheckIdle() {
  if (is_ending_ && IsQuiet()) return false;
  bool is_idle = true;
  for (Ring& ring : rings_) {
    if (ring.queue != nullptr && !ring.is_away) is_idle &= ring.queue->ArmAndCheckIdle();
  }
  // Rings were touched just now: if that found truncated memory, no event will ever say so.
  CheckMemory();
  return is_idle && !(is_ending_ && IsQuiet());
}

std::int64_t Session::HeldBackNs() const {
  std::int64_t least_ns = 0;
  for (const Ring& ring : rings_) {
    const bool is_here = ring.queue != nullptr && !ring.is_away;
    const std::int64_t ns = is_here ? ring.queue->HeldBackNs() : 0;
    if (ns > 0 && (least_ns == 0 || ns < least_ns)) least_ns = ns;
  }
  return least_ns;
}

void Session::OnResized() {
  info_ = backend_.Info();
  device_.capacity_sectors = info_.size_bytes / 512;
  must_announce_ = true;
  AnnounceConfig();
}

// Its reader is the peer: what does not fit into the socket is sent later.
void Session::AnnounceConfig() {
  must_announce_ = false;
  if (is_ending_ || !backend_channel_.is_open() || !HasProtocol(virtio::kProtocolConfig)) return;
  virtio::VhostHeader header;
  header.request = static_cast<std::uint32_t>(virtio::VhostBackendRequest::kConfigChanged);
  header.flags = virtio::kVhostVersion;
  header.payload_bytes = 0;
  const auto sent = virtio::SendVhostMessage(backend_channel_.get(), header, {}, {}, MSG_DONTWAIT);
  must_announce_ = !sent.has_value() && sent.error() == Errc::kTimedOut;
}

void Session::CountKick(std::uint32_t queue_index) {
  if (queue_index >= rings_.size()) return;
  const Ring& ring = rings_[queue_index];
  if (ring.kick.is_open() && !ring.is_away) counters_.kicks.Add(TakeKicks(ring.kick.get()));
}

void Session::UpdateAccepting() {
  const bool is_open = !is_ending_ && !waiting_;
  for (Ring& ring : rings_) {
    if (ring.queue == nullptr || ring.is_away) continue;
    ring.queue->SetAccepting(is_open && ring.is_enabled && !ring.needs_translation);
  }
}

void Session::ReportFault(std::uint32_t index) {
  Ring& ring = rings_[index];
  ring.is_broken = true;
  counters_.protocol_errors.Add(1);
  log_.Warn(fmt::format("queue {} stopped: {}", index, RingFaultText(ring.queue->fault())));
  if (!ring.error.is_open()) return;
  Notifier error;  // made when needed: faults are few
  const auto aimed = error.Aim(ring.error);
  if (!aimed.has_value() || !error.Ring()) {
    log_.Warn(fmt::format("queue {}: its error is not signalled", index));
  }
}

void Session::AskForMiss(Ring& ring, const IotlbMiss& miss) {
  if (ring.asked == miss || !backend_channel_.is_open()) return;
  virtio::VhostIotlb wire{};
  wire.iova = miss.iova;
  wire.permission = miss.permission;
  wire.type = static_cast<std::uint8_t>(virtio::VhostIotlbType::kMiss);
  virtio::VhostHeader header;
  header.request = static_cast<std::uint32_t>(virtio::VhostBackendRequest::kIotlbMessage);
  header.flags = virtio::kVhostVersion;
  header.payload_bytes = sizeof(wire);
  const auto sent = virtio::SendVhostMessage(backend_channel_.get(), header,
                                             std::as_bytes(std::span(&wire, 1)), {}, MSG_DONTWAIT);
  if (sent.has_value()) ring.asked = miss;  // else: again next round
}

TranslateStatus Session::FindRing(const Ring& ring, RingLayout& layout, IotlbMiss& miss) const {
  layout.size = ring.size;
  layout.has_event_index = (features_ & virtio::kFeatureRingEventIndex) != 0;
  layout.has_indirect = (features_ & virtio::kFeatureRingIndirect) != 0;
  const bool is_packed = HasPackedRings();
  constexpr std::uint8_t kReadWrite = virtio::kIotlbRead | virtio::kIotlbWrite;
  struct Part {
    std::uint64_t address;
    std::size_t bytes, align;
    std::uint8_t permission;
    std::byte* host;
  };
  Part split_parts[] = {
      {ring.address->descriptor_address, virtio::DescriptorTableBytes(ring.size),
       virtio::kDescriptorTableAlign, virtio::kIotlbRead, nullptr},
      {ring.address->avail_address, virtio::AvailRingBytes(ring.size), virtio::kAvailRingAlign,
       virtio::kIotlbRead, nullptr},
      {ring.address->used_address, virtio::UsedRingBytes(ring.size), virtio::kUsedRingAlign,
       kReadWrite, nullptr},
  };
  // The protocol names the driver's and the device's event areas avail and used.
  Part packed_parts[] = {
      {ring.address->descriptor_address, virtio::PackedRingBytes(ring.size),
       virtio::kPackedRingAlign, kReadWrite, nullptr},
      {ring.address->avail_address, sizeof(virtio::PackedEvent), virtio::kPackedEventAlign,
       virtio::kIotlbRead, nullptr},
      {ring.address->used_address, sizeof(virtio::PackedEvent), virtio::kPackedEventAlign,
       kReadWrite, nullptr},
  };
  const std::span<Part> parts = is_packed ? std::span(packed_parts) : std::span(split_parts);
  for (Part& part : parts) {
    if (part.address % part.align != 0) return TranslateStatus::kBadAddress;
    SegmentList pieces;
    const auto status =
        AddressView(space_).TranslateRing(part.address, part.bytes, part.permission, pieces, miss);
    if (status != TranslateStatus::kOk) return status;
    if (pieces.count != 1) return TranslateStatus::kTooManySegments;  // must be in one piece here
    part.host = static_cast<std::byte*>(pieces.segments[0].iov_base);
    if (reinterpret_cast<std::uintptr_t>(part.host) % part.align != 0) {
      return TranslateStatus::kBadAddress;
    }
  }
  if (is_packed) {
    layout.packed = reinterpret_cast<virtio::PackedDescriptor*>(parts[0].host);
    layout.driver_event = reinterpret_cast<const virtio::PackedEvent*>(parts[1].host);
    layout.device_event = reinterpret_cast<virtio::PackedEvent*>(parts[2].host);
    return TranslateStatus::kOk;
  }
  layout.descriptors = reinterpret_cast<virtio::Descriptor*>(parts[0].host);
  layout.avail = reinterpret_cast<virtio::AvailRing*>(parts[1].host);
  layout.used = reinterpret_cast<virtio::UsedRing*>(parts[2].host);
  return TranslateStatus::kOk;
}

// Starts the ring, or finds it again, once all that it needs is known.
void Session::TryStart(std::uint32_t index) {
  Ring& ring = rings_[index];
  if (ring.size == 0 || !ring.address || !ring.has_kick || space_.memory().size() == 0) return;
  if (ring.queue != nullptr && !ring.needs_translation) return;
  RingLayout layout;
  IotlbMiss miss;
  const TranslateStatus status = FindRing(ring, layout, miss);
  if (status == TranslateStatus::kMiss) return AskForMiss(ring, miss);
  if (status != TranslateStatus::kOk) {
    return End(Error(Errc::kBadAddress, fmt::format("queue {}: its ring is not in one piece of "
                                                    "guest memory",
                                                    index)));
  }
  ring.asked = {};
  ring.needs_translation = false;
  if (ring.queue != nullptr) return ring.queue->Move(layout);

  if (HasPackedRings() && (ring.base & virtio::kPackedPlaceMask) >= ring.size) {
    return End(Error(Errc::kProtocol, fmt::format("queue {}: base beyond the ring", index)));
  }
  std::byte* inflight = nullptr;
  if (inflight_file_.is_mapped() && index < inflight_queue_count_) {
    if (ring.size > inflight_queue_size_) {
      return End(Error(Errc::kProtocol, "ring larger than its inflight table"));
    }
    inflight = inflight_file_.data() + InflightTable::BytesPerQueue(inflight_queue_size_) * index;
  }
  auto queue = std::make_unique<BlockQueue>(space_, device_, counters_);
  const auto started = queue->Start(backend_, layout, ring.base, inflight, inflight_queue_size_);
  if (!started.has_value()) return End(started.assume_error());
  queue->SetCall(&ring.call);
  queue->SetLimiter(options_.limiter);
  ShowMemory(*queue);
  ring.is_broken = false;
  ring.queue = std::move(queue);
  ring.wait_fd = ring.queue->WaitFd();
  if (ring.wait_fd < 0) return;
  const auto added = waits_.Add(ring.wait_fd, {WaitKind::kBackend, options_.volume_index, index});
  if (!added.has_value()) End(added.assume_error());
}

void Session::StopRing(Ring& ring) {
  ring.has_kick = false;
  ring.asked = {};
  ring.needs_translation = false;
  if (ring.kick.is_open()) waits_.Remove(ring.kick.get());
  ring.kick.Reset();
  if (ring.queue == nullptr) return;
  FILER_ASSERT(ring.queue->in_flight() == 0);
  if (ring.wait_fd >= 0) waits_.Remove(ring.wait_fd);
  ring.wait_fd = -1;
  ring.base = ring.queue->Stop();
  ring.queue.reset();
}

void Session::StopAll() {
  for (Ring& ring : rings_) StopRing(ring);
}

// A guest that resets its device for ever, or moves its memory about, gets slower I/O, and keeps no
// poller busy with registering it.
void Session::ShowMemory(BlockQueue& queue) {
  if (registrations_.Take()) return queue.SetMemory(space_.memory().Regions());
  queue.SetMemory({});
}

void Session::MemoryChanged() {
  for (std::uint32_t i = 0; i < rings_.size(); ++i) {
    if (rings_[i].queue != nullptr) {
      ShowMemory(*rings_[i].queue);
      rings_[i].needs_translation = true;
    }
    TryStart(i);
  }
}

}  // namespace filer::bridge
