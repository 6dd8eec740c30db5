#include "host-bridge/virtio/vhost_user.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace filer::virtio {
namespace {

constexpr std::size_t kRightsMax = 253;  // SCM_MAX_FD of the kernel

Error SocketError(int code, const char* what) {
  if (code == EAGAIN || code == EWOULDBLOCK) return Errc::kTimedOut;
  if (code == EPIPE || code == ECONNRESET) return Errc::kDeviceGone;
  return Error::System(code, what);
}

}  // namespace

// Takes every descriptor of the control data. False: more than the table has room for.
bool VhostReceiver::TakeDescriptors(msghdr& message) {
  bool all_fit = (message.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (message_.fd_count < message_.fds.size()) {
        message_.fds[message_.fd_count++] = std::move(owned);
      } else {
        surplus_.push_back(std::move(owned));
        all_fit = false;
      }
    }
  }
  return all_fit;
}

// Reads up to `size` bytes, and the descriptors that come along. kWouldBlock: none there now.
Result<std::size_t> VhostReceiver::ReceiveSome(int socket, int flags, std::byte* data,
                                               std::size_t size) {
  // Room for all that one message can bring: the kernel would close here what does not fit.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kRightsMax)];
  iovec vector{data, size};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    const bool is_empty = errno == EAGAIN || errno == EWOULDBLOCK;
    if (is_empty && (flags & MSG_DONTWAIT) != 0) return Errc::kWouldBlock;
    return SocketError(errno, "recvmsg on a vhost-user socket");
  }
  if (!TakeDescriptors(message)) {
    return Error(Errc::kProtocol, "vhost-user message with too many descriptors");
  }
  if (got == 0) return Errc::kDeviceGone;
  return static_cast<std::size_t>(got);
}

std::string_view VhostRequestName(std::uint32_t request) {
  static constexpr std::pair<VhostRequest, std::string_view> kNames[] = {
      {VhostRequest::kGetFeatures, "GET_FEATURES"},
      {VhostRequest::kSetFeatures, "SET_FEATURES"},
      {VhostRequest::kSetOwner, "SET_OWNER"},
      {VhostRequest::kResetOwner, "RESET_OWNER"},
      {VhostRequest::kSetMemTable, "SET_MEM_TABLE"},
      {VhostRequest::kSetLogBase, "SET_LOG_BASE"},
      {VhostRequest::kSetLogFd, "SET_LOG_FD"},
      {VhostRequest::kSetVringNum, "SET_VRING_NUM"},
      {VhostRequest::kSetVringAddr, "SET_VRING_ADDR"},
      {VhostRequest::kSetVringBase, "SET_VRING_BASE"},
      {VhostRequest::kGetVringBase, "GET_VRING_BASE"},
      {VhostRequest::kSetVringKick, "SET_VRING_KICK"},
      {VhostRequest::kSetVringCall, "SET_VRING_CALL"},
      {VhostRequest::kSetVringErr, "SET_VRING_ERR"},
      {VhostRequest::kGetProtocolFeatures, "GET_PROTOCOL_FEATURES"},
      {VhostRequest::kSetProtocolFeatures, "SET_PROTOCOL_FEATURES"},
      {VhostRequest::kGetQueueNum, "GET_QUEUE_NUM"},
      {VhostRequest::kSetVringEnable, "SET_VRING_ENABLE"},
      {VhostRequest::kSetBackendReqFd, "SET_BACKEND_REQ_FD"},
      {VhostRequest::kIotlbMessage, "IOTLB_MSG"},
      {VhostRequest::kGetConfig, "GET_CONFIG"},
      {VhostRequest::kSetConfig, "SET_CONFIG"},
      {VhostRequest::kGetInflightFd, "GET_INFLIGHT_FD"},
      {VhostRequest::kSetInflightFd, "SET_INFLIGHT_FD"},
      {VhostRequest::kGpuSetSocket, "GPU_SET_SOCKET"},
      {VhostRequest::kResetDevice, "RESET_DEVICE"},
      {VhostRequest::kGetMaxMemSlots, "GET_MAX_MEM_SLOTS"},
      {VhostRequest::kAddMemReg, "ADD_MEM_REG"},
      {VhostRequest::kRemMemReg, "REM_MEM_REG"},
      {VhostRequest::kSetStatus, "SET_STATUS"},
      {VhostRequest::kGetStatus, "GET_STATUS"},
  };
  for (const auto& [code, name] : kNames) {
    if (static_cast<std::uint32_t>(code) == request) return name;
  }
  return "request";
}

Result<void> SendVhostMessage(int socket, const VhostHeader& header,
                              std::span<const std::byte> payload, std::span<const int> fds,
                              int send_flags) {
  FILER_ASSERT(fds.size() <= kVhostFdsMax);
  FILER_ASSERT(header.payload_bytes == payload.size());
  std::array<std::byte, sizeof(VhostHeader) + kVhostPayloadBytesMax> bytes;
  FILER_ASSERT(payload.size() <= kVhostPayloadBytesMax);
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!payload.empty()) std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
  const std::size_t size = sizeof(header) + payload.size();

  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kVhostFdsMax)] = {};
  std::size_t done = 0;
  while (done < size) {
    iovec vector{bytes.data() + done, size - done};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (done == 0 && !fds.empty()) {  // descriptors travel with the first byte
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* header_of_fds = CMSG_FIRSTHDR(&message);
      header_of_fds->cmsg_level = SOL_SOCKET;
      header_of_fds->cmsg_type = SCM_RIGHTS;
      header_of_fds->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(header_of_fds), fds.data(), sizeof(int) * fds.size());
    }
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | send_flags);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return SocketError(errno, "sendmsg on a vhost-user socket");
    done += static_cast<std::size_t>(sent);
  }
  return Ok();
}

Result<bool> VhostReceiver::Advance(int socket, int recv_flags) {
  constexpr std::size_t kHeaderBytes = sizeof(VhostHeader);
  while (true) {
    const bool has_header = received_bytes_ >= kHeaderBytes;
    const std::size_t wanted =
        has_header ? kHeaderBytes + message_.header.payload_bytes : kHeaderBytes;
    if (has_header && received_bytes_ == wanted) return true;

    std::byte* const into = has_header
                                ? message_.payload.data() + (received_bytes_ - kHeaderBytes)
                                : reinterpret_cast<std::byte*>(&message_.header) + received_bytes_;
    auto got = ReceiveSome(socket, recv_flags, into, wanted - received_bytes_);
    if (!got.has_value()) {
      if (got.assume_error() == Errc::kWouldBlock) return false;
      return std::move(got).assume_error();
    }
    received_bytes_ += got.assume_value();
    if (received_bytes_ != kHeaderBytes) continue;
    if ((message_.header.flags & kVhostVersionMask) != kVhostVersion) {
      return Error(Errc::kProtocol, "vhost-user message of another version");
    }
    if (message_.header.payload_bytes > kVhostPayloadBytesMax) {
      return Error(Errc::kProtocol, "vhost-user message larger than any we know");
    }
  }
}

VhostMessage VhostReceiver::Take() {
  FILER_ASSERT(received_bytes_ == sizeof(VhostHeader) + message_.header.payload_bytes);
  received_bytes_ = 0;
  return std::exchange(message_, VhostMessage{});
}

Result<VhostMessage> ReceiveVhostMessage(int socket) {
  VhostReceiver receiver;
  FILER_TRY(receiver.Advance(socket, 0));
  return receiver.Take();
}

}  // namespace filer::virtio
