// vhost_user_session.h: one connection to a vhost-user back end, as its front end: the messages
// that start and stop a block device. Blocking, each call at most `timeout_ms`. One thread at a
// time. The connection ends with the object.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "host-bridge/initiator/driver_queue.h"
#include "host-bridge/virtio/block.h"
#include "host-bridge/virtio/vhost_user.h"

namespace filer::bridge {

class VhostUserSession {
 public:
  // Errors: kNotRunning (nobody listens), kInvalidArgument (path too long), kTimedOut, kProtocol,
  // kNotSupported.
  static Result<std::unique_ptr<VhostUserSession>> Connect(const std::string& socket_path,
                                                           int timeout_ms);

  // What the device offers, transport bits removed.
  std::uint64_t offered_features() const noexcept { return features_ & ~kTransportBits; }
  std::uint32_t queue_count_max() const noexcept { return queue_count_max_; }
  int socket() const noexcept { return socket_.get(); }

  Result<virtio::BlockConfig> ReadConfig();
  // The channel on which the back end speaks up; -1 when it has none.
  int backend_channel() const noexcept { return backend_channel_.get(); }
  // Reads what came on it, without waiting. True: the configuration has changed.
  // Errors: kDeviceGone, kProtocol.
  Result<bool> TakeConfigChanged();
  Result<void> SetFeatures(std::uint64_t chosen);
  // One region; `memory` lies at offset_bytes of the file, and guest address = our address.
  Result<void> ShareMemory(std::span<std::byte> memory, int fd, std::uint64_t offset_bytes);
  struct QueueSetup {
    std::uint32_t index;
    std::uint32_t size;
    RingAddresses addresses;
    bool is_packed;
    int kick_fd;
    int call_fd;
  };
  // Starts a queue from its beginning.
  Result<void> StartQueue(const QueueSetup& setup);
  // The back end answers once it uses the ring no longer.
  Result<void> StopQueue(std::uint32_t index);

 private:
  static constexpr std::uint64_t kTransportBits =
      virtio::kFeatureVhostProtocolFeatures | virtio::kFeatureVhostLogAll;
  explicit VhostUserSession(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<void> Negotiate();
  Result<void> OpenBackendChannel();
  // Sends; with REPLY_ACK waits for the verdict.
  Result<void> Command(virtio::VhostRequest request, std::span<const std::byte> payload,
                       std::span<const int> fds = {});
  Result<void> CommandU64(virtio::VhostRequest request, std::uint64_t value,
                          std::span<const int> fds = {});
  Result<void> CommandVring(virtio::VhostRequest request, std::uint32_t index, std::uint32_t value);
  // Sends and takes the answer.
  Result<virtio::VhostMessage> Ask(virtio::VhostRequest request,
                                   std::span<const std::byte> payload);
  Result<std::uint64_t> AskU64(virtio::VhostRequest request);
  Result<virtio::VhostMessage> Exchange(virtio::VhostRequest request, std::uint32_t flags,
                                        std::span<const std::byte> payload,
                                        std::span<const int> fds);

  UniqueFd socket_;
  UniqueFd backend_channel_;
  virtio::VhostReceiver backend_receiver_;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  std::uint32_t queue_count_max_ = 1;
};

}  // namespace filer::bridge
