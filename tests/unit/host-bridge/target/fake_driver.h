// fake_driver.h: a small vhost-user front end with a virtio-blk driver, for tests of the target
// over a real socket: sends any message, well-formed or not, and drives one queue.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "host-bridge/virtio/block.h"
#include "host-bridge/virtio/ring.h"
#include "host-bridge/virtio/vhost_user.h"
#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {

class FakeDriver {
 public:
  static constexpr std::uint64_t kGuest = 0x40000000;     // guest address of the memory
  static constexpr std::uint64_t kUser = 0x7f1200000000;  // "user" address of the memory
  static constexpr std::uint32_t kSize = 16;
  static constexpr std::size_t kHeader = 0x4000, kStatus = 0x4800, kData = 0x10000;

  explicit FakeDriver(const std::string& path) : memory_(1 << 20) {
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    FILER_ASSERT(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
                 0);
    const timeval limit{5, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    kick_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    call_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    error_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }

  // --- messages
  void SendRaw(std::uint32_t request, std::span<const std::byte> payload, std::vector<int> fds = {},
               std::uint32_t flags = virtio::kVhostVersion) {
    virtio::VhostHeader header;
    header.request = request;
    header.flags = flags;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    (void)virtio::SendVhostMessage(socket_.get(), header, payload, fds).has_value();
  }
  template <DiskStruct T>
  void Send(virtio::VhostRequest request, const T& payload, std::vector<int> fds = {},
            std::uint32_t flags = virtio::kVhostVersion) {
    SendRaw(static_cast<std::uint32_t>(request), std::as_bytes(std::span(&payload, 1)), fds, flags);
  }
  void Send(virtio::VhostRequest request, std::vector<int> fds = {}) {
    SendRaw(static_cast<std::uint32_t>(request), {}, fds);
  }
  static virtio::VhostU64 U64(std::uint64_t value) {
    virtio::VhostU64 wire;
    wire.value = value;
    return wire;
  }
  static virtio::VhostVringState State(std::uint32_t index, std::uint32_t value) {
    virtio::VhostVringState wire;
    wire.index = index;
    wire.value = value;
    return wire;
  }
  Result<virtio::VhostMessage> Receive() { return virtio::ReceiveVhostMessage(socket_.get()); }
  std::uint64_t Ask(virtio::VhostRequest request) {
    Send(request);
    auto answer = Receive();
    if (!answer.has_value()) return UINT64_MAX;
    const auto* value = answer.assume_value().As<virtio::VhostU64>();
    return value == nullptr ? UINT64_MAX : std::uint64_t{value->value};
  }
  // Whether the target hung up.
  bool IsClosed() {
    auto answer = Receive();
    return !answer.has_value() && answer.assume_error() == Errc::kDeviceGone;
  }

  virtio::VhostRegion Region() const {
    virtio::VhostRegion region;
    region.guest_address = kGuest;
    region.size_bytes = memory_.bytes();
    region.user_address = kUser;
    region.mmap_offset = 0;
    return region;
  }
  void Negotiate(std::uint64_t features) {
    protocol_ = Ask(virtio::VhostRequest::kGetProtocolFeatures);
    Send(virtio::VhostRequest::kSetProtocolFeatures, U64(protocol_));
    Send(virtio::VhostRequest::kSetOwner);
    Send(virtio::VhostRequest::kSetFeatures,
         U64(features | virtio::kFeatureVersion1 | virtio::kFeatureVhostProtocolFeatures));
  }
  void ShareMemory() {
    virtio::VhostMemoryTable table{};
    table.region_count = 1;
    table.regions[0] = Region();
    SendRaw(static_cast<std::uint32_t>(virtio::VhostRequest::kSetMemTable),
            std::as_bytes(std::span(&table, 1)).first(8 + 32), {memory_.fd()});
  }
  void SetRing(std::uint32_t index, std::uint16_t base, std::uint64_t ring_base = kUser) {
    Send(virtio::VhostRequest::kSetVringNum, State(index, kSize));
    Send(virtio::VhostRequest::kSetVringBase, State(index, base));
    virtio::VhostVringAddress address{};
    address.index = index;
    address.descriptor_address = ring_base;
    address.avail_address = ring_base + 0x1000;
    address.used_address = ring_base + 0x2000;
    Send(virtio::VhostRequest::kSetVringAddr, address);
    Send(virtio::VhostRequest::kSetVringCall, U64(index), {call_.get()});
    Send(virtio::VhostRequest::kSetVringErr, U64(index), {error_.get()});
    Send(virtio::VhostRequest::kSetVringKick, U64(index), {kick_.get()});
    Send(virtio::VhostRequest::kSetVringEnable, State(index, 1));
  }
  void Start(std::uint64_t features = virtio::kBlockFlush) {
    Negotiate(features);
    ShareMemory();
    SetRing(0, 0);
  }

  // --- the queue
  virtio::Descriptor* descriptors() { return memory_.At<virtio::Descriptor>(0); }
  virtio::AvailRing* avail() { return memory_.At<virtio::AvailRing>(0x1000); }
  virtio::UsedRing* used() { return memory_.At<virtio::UsedRing>(0x2000); }

  void Publish(std::uint16_t head) {
    avail()->ring[avail()->index % kSize] = head;
    virtio::StoreRelease(avail()->index, static_cast<std::uint16_t>(avail()->index + 1));
    Kick();
  }
  void Kick() {
    const std::uint64_t one = 1;
    (void)!::write(kick_.get(), &one, sizeof(one));
  }
  // Descriptors 3n to 3n+2: header, data at kData + 64K * n, status. Returns the head.
  std::uint16_t Prepare(std::uint32_t n, std::uint32_t type, std::uint64_t sector,
                        std::uint32_t data_bytes) {
    auto* header = memory_.At<virtio::RequestHeader>(kHeader + n * 16);
    header->type = type;
    header->reserved = 0;
    header->sector = sector;
    *memory_.At<std::uint8_t>(kStatus + n) = 0xff;
    const auto head = static_cast<std::uint16_t>(3 * n);
    const auto data = static_cast<std::uint16_t>(head + 1),
               status = static_cast<std::uint16_t>(head + 2);
    const bool is_read = type == virtio::kRequestIn || type == virtio::kRequestGetId;
    descriptors()[head] = {kGuest + kHeader + n * 16, 16, virtio::kDescriptorNext,
                           data_bytes > 0 ? data : status};
    descriptors()[data] = {kGuest + DataOffset(n), data_bytes,
                           static_cast<std::uint16_t>(virtio::kDescriptorNext |
                                                      (is_read ? virtio::kDescriptorWrite : 0)),
                           status};
    descriptors()[status] = {kGuest + kStatus + n, 1, virtio::kDescriptorWrite, 0};
    return head;
  }
  static std::size_t DataOffset(std::uint32_t n) { return kData + (std::size_t{n} << 16); }
  std::uint8_t* Data(std::uint32_t n) { return memory_.At<std::uint8_t>(DataOffset(n)); }
  std::uint8_t Status(std::uint32_t n) { return *memory_.At<std::uint8_t>(kStatus + n); }
  bool WaitUsed(std::uint16_t index, int timeout_ms = 5000) {
    for (int i = 0; i < timeout_ms * 5; ++i) {
      if (virtio::LoadAcquire(used()->index) == index) return true;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return false;
  }
  // One request, start to end: its status, or 0xee when it never came back.
  std::uint8_t Do(std::uint32_t type, std::uint64_t sector, std::uint32_t data_bytes) {
    const auto wanted = static_cast<std::uint16_t>(used()->index + 1);
    Publish(Prepare(0, type, sector, data_bytes));
    return WaitUsed(wanted) ? Status(0) : 0xee;
  }
  std::uint32_t LastUsedLength() {
    return used()->ring[static_cast<std::uint16_t>(used()->index - 1) % kSize].length;
  }
  bool HasErrorSignal(int timeout_ms = 5000) {
    pollfd wait{error_.get(), POLLIN, 0};
    return ::poll(&wait, 1, timeout_ms) == 1;
  }
  bool HasInterrupt() {
    std::uint64_t count = 0;
    return ::read(call_.get(), &count, sizeof(count)) == sizeof(count);
  }
  FakeMemory& memory() { return memory_; }
  std::uint64_t protocol() const { return protocol_; }
  UniqueFd& kick() { return kick_; }
  UniqueFd& call() { return call_; }
  UniqueFd& error() { return error_; }
  int socket() const { return socket_.get(); }
  void Disconnect() { socket_.Reset(); }

 private:
  FakeMemory memory_;
  UniqueFd socket_, kick_, call_, error_;
  std::uint64_t protocol_ = 0;
};

}  // namespace filer::bridge
