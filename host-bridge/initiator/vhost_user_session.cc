#include "host-bridge/initiator/vhost_user_session.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "host-bridge/initiator/virtio_disk.h"

namespace filer::bridge {

using virtio::VhostHeader;
using virtio::VhostMessage;
using virtio::VhostRequest;

namespace {
constexpr std::uint32_t kQueueCountMax = 256;  // vhost-user names queues with eight bits

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

Result<UniqueFd> ConnectSocket(const std::string& path, int timeout_ms) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalidArgument, fmt::format("socket path '{}' must have 1 to {} bytes",
                                                     path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  const timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error(Errc::kNotRunning,
                   fmt::format("no bridge listens on {}: start host-bridge first", path));
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return Error(Errc::kTimedOut, fmt::format("the bridge at {} does not accept us", path));
    }
    return Error::System(errno, fmt::format("connect to {}", path));
  }
  return socket;
}
}  // namespace

Result<std::unique_ptr<VhostUserSession>> VhostUserSession::Connect(const std::string& socket_path,
                                                                    int timeout_ms) {
  UniqueFd socket = FILER_TRY(ConnectSocket(socket_path, timeout_ms));
  std::unique_ptr<VhostUserSession> session(new VhostUserSession(std::move(socket)));
  FILER_TRY(session->Negotiate());
  return session;
}

Result<void> VhostUserSession::Negotiate() {
  features_ = FILER_TRY(AskU64(VhostRequest::kGetFeatures));
  if ((features_ & virtio::kFeatureVhostProtocolFeatures) == 0) {
    return Error(Errc::kNotSupported, "the vhost-user back end has no protocol features");
  }
  const std::uint64_t offered = FILER_TRY(AskU64(VhostRequest::kGetProtocolFeatures));
  constexpr std::uint64_t kWanted = virtio::kProtocolMultiQueue | virtio::kProtocolReplyAck |
                                    virtio::kProtocolConfig | virtio::kProtocolBackendRequest;
  if ((offered & virtio::kProtocolConfig) == 0) {
    return Error(Errc::kNotSupported, "the vhost-user back end has no configuration space");
  }
  FILER_TRY(CommandU64(VhostRequest::kSetProtocolFeatures, offered & kWanted));
  protocol_features_ = offered & kWanted;  // acknowledgements come from here on
  FILER_TRY(Command(VhostRequest::kSetOwner, {}));
  if ((protocol_features_ & virtio::kProtocolMultiQueue) != 0) {
    const std::uint64_t count = FILER_TRY(AskU64(VhostRequest::kGetQueueNum));
    queue_count_max_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, kQueueCountMax));
  }
  if ((protocol_features_ & virtio::kProtocolBackendRequest) != 0) {
    FILER_TRY(OpenBackendChannel());
  }
  return Ok();
}

Result<void> VhostUserSession::OpenBackendChannel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Error::System(errno, "socketpair");
  }
  backend_channel_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  return Command(VhostRequest::kSetBackendReqFd, {}, std::array{theirs.get()});
}

Result<bool> VhostUserSession::TakeConfigChanged() {
  bool has_changed = false;
  while (FILER_TRY(backend_receiver_.Advance(backend_channel_.get(), MSG_DONTWAIT))) {
    const VhostMessage message = backend_receiver_.Take();
    const auto request = static_cast<virtio::VhostBackendRequest>(message.header.request.value());
    if (request != virtio::VhostBackendRequest::kConfigChanged) continue;  // of no use to us
    has_changed = true;
    if ((message.header.flags & virtio::kVhostNeedReply) == 0) continue;
    virtio::VhostU64 done{};
    VhostHeader header;
    header.request = message.header.request;
    header.flags = virtio::kVhostVersion | virtio::kVhostReply;
    header.payload_bytes = sizeof(done);
    FILER_TRY(virtio::SendVhostMessage(backend_channel_.get(), header, BytesOf(done), {}));
  }
  return has_changed;
}

Result<virtio::BlockConfig> VhostUserSession::ReadConfig() {
  constexpr std::size_t kHeadBytes = offsetof(virtio::VhostConfig, data);
  virtio::VhostConfig question = {};
  question.size_bytes = static_cast<std::uint32_t>(kConfigBytes);
  const VhostMessage answer =
      FILER_TRY(Ask(VhostRequest::kGetConfig, BytesOf(question).first(kHeadBytes + kConfigBytes)));
  if (answer.header.payload_bytes != kHeadBytes + kConfigBytes) {
    return Error(Errc::kProtocol,
                 fmt::format("the vhost-user back end answered GET_CONFIG with {} bytes",
                             answer.header.payload_bytes.value()));
  }
  virtio::BlockConfig config = {};
  std::memcpy(&config, answer.payload.data() + kHeadBytes, kConfigBytes);
  return config;
}

Result<void> VhostUserSession::SetFeatures(std::uint64_t chosen) {
  return CommandU64(VhostRequest::kSetFeatures, chosen | virtio::kFeatureVhostProtocolFeatures);
}

Result<void> VhostUserSession::ShareMemory(std::span<std::byte> memory, int fd,
                                           std::uint64_t offset_bytes) {
  virtio::VhostMemoryTable table = {};
  table.region_count = 1;
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  table.regions[0].guest_address = address;
  table.regions[0].user_address = address;
  table.regions[0].size_bytes = memory.size();
  table.regions[0].mmap_offset = offset_bytes;
  const std::array<int, 1> fds = {fd};
  return Command(VhostRequest::kSetMemTable,
                 BytesOf(table).first(offsetof(virtio::VhostMemoryTable, regions) +
                                      sizeof(virtio::VhostRegion)),
                 fds);
}

Result<void> VhostUserSession::StartQueue(const QueueSetup& setup) {
  FILER_TRY(CommandVring(VhostRequest::kSetVringNum, setup.index, setup.size));
  // Of a packed ring the avail and the used position: place 0, wrap counter 1.
  constexpr std::uint32_t kWrap = virtio::kPackedPlaceWrap;
  FILER_TRY(CommandVring(VhostRequest::kSetVringBase, setup.index,
                         setup.is_packed ? kWrap | kWrap << 16 : 0));
  virtio::VhostVringAddress address = {};
  address.index = setup.index;
  address.descriptor_address = setup.addresses.descriptors;
  address.avail_address = setup.addresses.avail;
  address.used_address = setup.addresses.used;
  FILER_TRY(Command(VhostRequest::kSetVringAddr, BytesOf(address)));
  FILER_TRY(CommandU64(VhostRequest::kSetVringCall, setup.index, std::array{setup.call_fd}));
  FILER_TRY(CommandU64(VhostRequest::kSetVringKick, setup.index, std::array{setup.kick_fd}));
  return CommandVring(VhostRequest::kSetVringEnable, setup.index, 1);
}

Result<void> VhostUserSession::StopQueue(std::uint32_t index) {
  virtio::VhostVringState state = {};
  state.index = index;
  FILER_TRY(Ask(VhostRequest::kGetVringBase, BytesOf(state)));
  return Ok();
}

Result<VhostMessage> VhostUserSession::Exchange(VhostRequest request, std::uint32_t flags,
                                                std::span<const std::byte> payload,
                                                std::span<const int> fds) {
  VhostHeader header;
  header.request = static_cast<std::uint32_t>(request);
  header.flags = virtio::kVhostVersion | flags;
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  FILER_TRY(virtio::SendVhostMessage(socket_.get(), header, payload, fds));
  VhostMessage answer = FILER_TRY(virtio::ReceiveVhostMessage(socket_.get()));
  if (answer.header.request != header.request || (answer.header.flags & virtio::kVhostReply) == 0) {
    return Error(Errc::kProtocol,
                 fmt::format("the vhost-user back end answered {} with something else",
                             virtio::VhostRequestName(header.request)));
  }
  return answer;
}

Result<void> VhostUserSession::Command(VhostRequest request, std::span<const std::byte> payload,
                                       std::span<const int> fds) {
  if ((protocol_features_ & virtio::kProtocolReplyAck) == 0) {
    VhostHeader header;
    header.request = static_cast<std::uint32_t>(request);
    header.flags = virtio::kVhostVersion;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    return virtio::SendVhostMessage(socket_.get(), header, payload, fds);
  }
  const VhostMessage answer = FILER_TRY(Exchange(request, virtio::kVhostNeedReply, payload, fds));
  const auto* verdict = answer.As<virtio::VhostU64>();
  if (verdict == nullptr || verdict->value != 0) {
    return Error(Errc::kProtocol,
                 fmt::format("the vhost-user back end refused {}",
                             virtio::VhostRequestName(static_cast<std::uint32_t>(request))));
  }
  return Ok();
}

Result<void> VhostUserSession::CommandU64(VhostRequest request, std::uint64_t value,
                                          std::span<const int> fds) {
  virtio::VhostU64 payload;
  payload.value = value;
  return Command(request, BytesOf(payload), fds);
}

Result<void> VhostUserSession::CommandVring(VhostRequest request, std::uint32_t index,
                                            std::uint32_t value) {
  virtio::VhostVringState payload;
  payload.index = index;
  payload.value = value;
  return Command(request, BytesOf(payload));
}

Result<VhostMessage> VhostUserSession::Ask(VhostRequest request,
                                           std::span<const std::byte> payload) {
  return Exchange(request, 0, payload, {});
}

Result<std::uint64_t> VhostUserSession::AskU64(VhostRequest request) {
  const VhostMessage answer = FILER_TRY(Ask(request, {}));
  const auto* payload = answer.As<virtio::VhostU64>();
  if (payload == nullptr) {
    return Error(Errc::kProtocol,
                 fmt::format("the vhost-user back end answered {} with {} bytes",
                             virtio::VhostRequestName(static_cast<std::uint32_t>(request)),
                             answer.header.payload_bytes.value()));
  }
  return std::uint64_t{payload->value};
}

}  // namespace filer::bridge
