// messages_fuzz.cc: vhost-user messages fed to a session over a real socket: any request, in any
// order, with any payload, length, flags and descriptors, in pieces, while requests are in flight
// in the rings it started; the memory behind may be truncated at any time.
//
// What must hold: nothing crashes or is written where it must not (ASan, UBSan, the asserts of
// BlockQueue and Session); the session ends when told to, whatever it was in the middle of.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "host-bridge/target/session.h"
#include "tests/fuzz/checking_backend.h"
#include "tests/fuzz/fuzz_target.h"

namespace filer::fuzz {
namespace {

using virtio::VhostRequest;

constexpr std::size_t kMemoryBytes = 128 << 10;
constexpr std::uint64_t kGuest = 0x100000, kUser = 0x7f0000000000;
constexpr std::uint32_t kQueues = 3, kRingSize = 8;
constexpr std::size_t kAvailAt = 0x1000, kUsedAt = 0x2000, kRingStride = 0x4000;

UniqueFd MemoryFile(std::size_t bytes) {
  UniqueFd fd(::memfd_create("fuzz-peer", MFD_CLOEXEC));
  FILER_ASSERT(fd.is_open() && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

// What the peer may send, made once.
struct Peer {
  UniqueFd memory = MemoryFile(kMemoryBytes), runt = MemoryFile(1), table = MemoryFile(64 << 10);
  UniqueFd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  UniqueFd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  UniqueFd stream, stream_end;
  std::byte* base = nullptr;
  bridge::Closer& closer = *bridge::Closer::Create().assume_value().release();  // for ever

  Peer() {
    int pair[2];
    FILER_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    stream = UniqueFd(pair[0]);
    stream_end = UniqueFd(pair[1]);
    base = static_cast<std::byte*>(
        ::mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0));
    FILER_ASSERT(base != MAP_FAILED);
  }
  void Renew() {  // what the last run may have done to it
    FILER_ASSERT(::ftruncate(memory.get(), kMemoryBytes) == 0);
    std::memset(base, 0, kMemoryBytes);
    FILER_ASSERT(::ftruncate(table.get(), 0) == 0 && ::ftruncate(table.get(), 64 << 10) == 0);
    std::array<std::byte, 4096> sink;
    while (::read(stream_end.get(), sink.data(), sink.size()) > 0) {
    }
  }
};

class MessagesRun {
 public:
  MessagesRun(Peer& peer, FuzzInput& input)
      : peer_(peer),
        input_(input),
        backend_(state_),
        waits_(bridge::WaitSet::Create().assume_value()) {
    peer.Renew();
    state_.info.size_bytes = 1 << 20;
    state_.info.can_discard = state_.info.can_write_zeroes = true;
    state_.info.is_read_only = input.Flip();
    int pair[2];
    FILER_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    ours_ = UniqueFd(pair[0]);
    session_ = std::make_unique<bridge::Session>(
        UniqueFd(pair[1]), bridge::SessionOptions{"fuzz", 0, kQueues}, backend_, counters_, waits_,
        peer.closer, log_, registrations_);
  }
  void Run() {
    for (int step = 0; step < 100 && !input_.is_empty(); ++step) {
      Step();
      Visit();
    }
    state_.is_holding = false;
    session_->End(Errc::kShuttingDown);
    for (int i = 0; i < 10'000 && !session_->IsFinished(); ++i) session_->Round();
    FILER_ASSERT(session_->IsFinished());
    session_->Leave();
    session_.reset();
  }

 private:
  void Step() {
    switch (input_.Below(10)) {
      case 0:
        return AnyMessage();
      case 1:
        return Begin();
      case 2:
        return StartRing(input_.Below(kQueues));
      case 3:
        state_.is_holding = input_.Flip();
        state_.order = input_.Take<std::uint8_t>();
        return;
      case 4:
        return Offer(input_.Below(kQueues));
      case 5:
        if (input_.Below(8) == 0) (void)::ftruncate(peer_.memory.get(), input_.Below(2) * 4096);
        return;
      case 6:
        return RawBytes();
      default:
        return LikelyMessage();
    }
  }
  void Visit() {
    session_->CheckMemory();
    session_->VisitSocket();
    session_->CountKick(input_.Below(kQueues + 1));
    session_->Round();
    session_->ArmAndCheckIdle();
    std::array<std::byte, 4096> sink;  // answers; descriptors in them are closed by the kernel
    while (::read(ours_.get(), sink.data(), sink.size()) > 0) {
    }
  }

  int AnyFd() {
    const int fds[] = {peer_.memory.get(), peer_.event.get(), peer_.table.get(), peer_.stream.get(),
                       peer_.null.get(),   peer_.runt.get(),  ours_.get()};
    return input_.Pick(fds);
  }
  // The header says what it likes of the payload's length.
  void Send(std::uint32_t request, std::span<const std::byte> payload, std::span<const int> fds,
            std::uint32_t flags, std::uint32_t said_bytes) {
    virtio::VhostHeader header;
    header.request = request;
    header.flags = flags;
    header.payload_bytes = said_bytes;
    std::vector<std::byte> bytes(sizeof(header) + payload.size());
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof(header));
    SendBytes(bytes, fds);
  }
  void SendBytes(std::span<const std::byte> bytes, std::span<const int> fds) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)] = {};
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
    }
    (void)::sendmsg(ours_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  template <DiskStruct T>
  void SendGood(VhostRequest request, const T& payload, std::initializer_list<int> fds = {}) {
    const auto bytes = std::as_bytes(std::span(&payload, 1));
    Send(static_cast<std::uint32_t>(request), bytes, std::span(fds.begin(), fds.size()),
         virtio::kVhostVersion, static_cast<std::uint32_t>(bytes.size()));
  }

  void RawBytes() {
    std::array<std::byte, 32> bytes;
    const std::uint32_t count = 1 + input_.Below(32);
    input_.Fill(bytes.data(), count);
    const int fd = AnyFd();
    SendBytes(std::span(bytes).first(count), std::span(&fd, input_.Below(4) == 0 ? 1 : 0));
  }
  void AnyMessage() {
    std::array<std::byte, 600> payload{};
    const std::uint32_t count = input_.Take<std::uint16_t>() % payload.size();
    input_.Fill(payload.data(), std::min<std::size_t>(count, 64));
    std::array<int, 12> fds;
    const std::uint32_t fd_count = input_.Below(static_cast<std::uint32_t>(fds.size() + 1));
    for (std::uint32_t i = 0; i < fd_count; ++i) fds[i] = AnyFd();
    const std::uint32_t said =
        input_.Below(4) == 0 ? static_cast<std::uint32_t>(TakeNumber(input_)) : count;
    Send(input_.Below(44), std::span(payload).first(count), std::span(fds).first(fd_count),
         input_.Below(8) == 0 ? input_.Take<std::uint32_t>() : 1 + 8 * input_.Below(2), said);
  }

  void Begin() {
    virtio::VhostU64 value;
    value.value = 0x1ULL << 32 | 1ULL << 30 | std::uint64_t{input_.Take<std::uint8_t>()} << 26 |
                  (input_.Take<std::uint16_t>() & 0x7000);
    virtio::VhostU64 protocol;
    protocol.value = virtio::kProtocolMultiQueue | virtio::kProtocolReplyAck |
                     virtio::kProtocolBackendRequest | virtio::kProtocolConfig |
                     virtio::kProtocolInflight | virtio::kProtocolResetDevice |
                     virtio::kProtocolMemorySlots;
    SendGood(VhostRequest::kSetProtocolFeatures, protocol);
    if (input_.Flip()) {  // only what is offered
      value.value =
          std::uint64_t{value.value} & (1ULL << 32 | 1ULL << 33 | 3ULL << 28 | 1ULL << 30 | 0x6000);
    }
    SendGood(VhostRequest::kSetFeatures, value);
    virtio::VhostSingleRegion region{};
    region.region = {};
    region.region.guest_address = kGuest;
    region.region.user_address = kUser;
    region.region.size_bytes = kMemoryBytes;
    SendGood(VhostRequest::kAddMemReg, region, {peer_.memory.get()});
  }
  virtio::VhostVringState State(std::uint32_t index, std::uint32_t value) {
    virtio::VhostVringState state;
    state.index = index;
    state.value = value;
    return state;
  }
  virtio::VhostVringAddress RingAddress(std::uint32_t index) {
    virtio::VhostVringAddress address{};
    const std::uint64_t base = kUser + kRingStride * index;
    address.index = index;
    address.descriptor_address = base;
    address.avail_address = base + kAvailAt;
    address.used_address = base + kUsedAt;
    return address;
  }
  void StartRing(std::uint32_t index) {
    SendGood(VhostRequest::kSetVringNum, State(index, kRingSize));
    SendGood(VhostRequest::kSetVringBase, State(index, 0));
    SendGood(VhostRequest::kSetVringAddr, RingAddress(index));
    virtio::VhostU64 value;
    value.value = index;
    SendGood(VhostRequest::kSetVringCall, value, {peer_.event.get()});
    SendGood(VhostRequest::kSetVringKick, value, {peer_.event.get()});
    SendGood(VhostRequest::kSetVringEnable, State(index, 1));
  }
  // A read or a write of one sector in the ring's memory.
  void Offer(std::uint32_t index) {
    if (::ftruncate(peer_.memory.get(), kMemoryBytes) != 0) return;
    std::byte* ring = peer_.base + kRingStride * index;
    auto* descriptors = reinterpret_cast<virtio::Descriptor*>(ring);
    auto* avail = reinterpret_cast<virtio::AvailRing*>(ring + kAvailAt);
    auto* header = reinterpret_cast<virtio::RequestHeader*>(ring + 0x3000);
    const bool is_read = input_.Flip();
    header->type = is_read ? virtio::kRequestIn : virtio::kRequestOut;
    header->sector = input_.Take<std::uint8_t>();
    const std::uint64_t guest = kGuest + kRingStride * index + 0x3000;
    const auto first = static_cast<std::uint16_t>(input_.Below(kRingSize));
    const auto second = static_cast<std::uint16_t>((first + 1) % kRingSize);
    const auto third = static_cast<std::uint16_t>((first + 2) % kRingSize);
    descriptors[first] = {guest, 16, virtio::kDescriptorNext, second};
    descriptors[second] = {guest + 512, 512,
                           static_cast<std::uint16_t>(virtio::kDescriptorNext |
                                                      (is_read ? virtio::kDescriptorWrite : 0)),
                           third};
    descriptors[third] = {guest + 16, 1, virtio::kDescriptorWrite, 0};
    avail->ring[avail->index % kRingSize] = first;
    virtio::StoreRelease(avail->index, static_cast<std::uint16_t>(avail->index + 1));
    const std::uint64_t one = 1;
    (void)!::write(peer_.event.get(), &one, sizeof(one));
  }

  // The right size and descriptors, and fields that are right or near an edge.
  std::uint64_t Field(std::uint64_t good) {
    return input_.Below(3) > 0 ? good : TakeNumber(input_);
  }
  void LikelyMessage() {
    const std::uint32_t index = static_cast<std::uint32_t>(Field(input_.Below(kQueues)));
    virtio::VhostU64 value;
    value.value = index | (input_.Below(4) == 0 ? virtio::kVringNoFd : 0);
    switch (input_.Below(16)) {
      case 0:
        return SendTable();
      case 1:
        return SendRegion(VhostRequest::kAddMemReg);
      case 2:
        return SendRegion(VhostRequest::kRemMemReg);
      case 3:
        return SendGood(VhostRequest::kSetVringNum,
                        State(index, static_cast<std::uint32_t>(Field(1U << input_.Below(11)))));
      case 4:
        return SendAddress(index);
      case 5:
        return SendGood(VhostRequest::kSetVringBase,
                        State(index, static_cast<std::uint32_t>(Field(input_.Below(16)))));
      case 6:
        return SendGood(VhostRequest::kGetVringBase, State(index, 0));
      case 7:
        return SendEvent(VhostRequest::kSetVringKick, value);
      case 8:
        return SendEvent(VhostRequest::kSetVringCall, value);
      case 9:
        return SendEvent(VhostRequest::kSetVringErr, value);
      case 10:
        return SendGood(VhostRequest::kSetVringEnable,
                        State(index, static_cast<std::uint32_t>(Field(input_.Below(2)))));
      case 11:
        return SendGood(VhostRequest::kSetBackendReqFd, value, {peer_.stream.get()});
      case 12:
        return SendIotlb();
      case 13:
        return SendInflight();
      case 14:
        return Send(input_.Flip() ? 4 : 34, {}, {}, virtio::kVhostVersion, 0);
      default:
        value.value = Field(1ULL << 32 | 1ULL << 30 | std::uint64_t{input_.Below(16)} << 28);
        return SendGood(VhostRequest::kSetFeatures, value);
    }
  }
  void SendEvent(VhostRequest request, const virtio::VhostU64& value) {
    if ((value.value & virtio::kVringNoFd) != 0) return SendGood(request, value);
    SendGood(request, value, {peer_.event.get()});
  }
  virtio::VhostRegion Region() {
    virtio::VhostRegion region;
    region.guest_address = Field(kGuest + kMemoryBytes * input_.Below(3));
    region.user_address = Field(kUser + kMemoryBytes * input_.Below(3));
    region.size_bytes = Field(kMemoryBytes >> input_.Below(3));
    region.mmap_offset = Field(4096 * input_.Below(3));
    return region;
  }
  void SendRegion(VhostRequest request) {
    virtio::VhostSingleRegion wire{};
    wire.region = Region();
    const int fd = input_.Below(8) == 0 ? AnyFd() : peer_.memory.get();
    const bool has_fd = request == VhostRequest::kAddMemReg;
    Send(static_cast<std::uint32_t>(request), std::as_bytes(std::span(&wire, 1)),
         std::span(&fd, has_fd ? 1 : 0), 1 + 8 * input_.Below(2), sizeof(wire));
  }
  void SendTable() {
    virtio::VhostMemoryTable table{};
    const std::uint32_t count = input_.Below(4);
    table.region_count = static_cast<std::uint32_t>(Field(count));
    std::array<int, 4> fds;
    for (std::uint32_t i = 0; i < count; ++i) {
      table.regions[i] = Region();
      fds[i] = peer_.memory.get();
    }
    const std::uint32_t bytes = 8 + 32 * count;
    Send(static_cast<std::uint32_t>(VhostRequest::kSetMemTable),
         std::as_bytes(std::span(&table, 1)).first(bytes), std::span(fds).first(count),
         1 + 8 * input_.Below(2), bytes);
  }
  void SendAddress(std::uint32_t index) {
    virtio::VhostVringAddress address = RingAddress(index % kQueues);
    address.index = index;
    address.descriptor_address = Field(address.descriptor_address);
    address.avail_address = Field(address.avail_address);
    address.used_address = Field(address.used_address + 2 * input_.Below(2));
    SendGood(VhostRequest::kSetVringAddr, address);
  }
  void SendIotlb() {
    virtio::VhostIotlb wire{};
    wire.type = static_cast<std::uint8_t>(2 + input_.Below(3));
    wire.iova = Field(kUser);
    wire.size_bytes = Field(kMemoryBytes);
    wire.user_address = Field(kUser);
    wire.permission = static_cast<std::uint8_t>(3 - input_.Below(3));
    Send(static_cast<std::uint32_t>(VhostRequest::kIotlbMessage),
         std::as_bytes(std::span(&wire, 1)), {}, 1 + 8 * input_.Below(2), sizeof(wire));
  }
  // The table's file holds anything.
  void SendInflight() {
    std::array<std::byte, 64> junk{};
    input_.Fill(junk.data(), input_.Take<std::uint8_t>() % junk.size());
    (void)!::pwrite(peer_.table.get(), junk.data(), junk.size(), 0);
    virtio::VhostInflight wire{};
    wire.mmap_size_bytes = Field(4096);
    wire.mmap_offset = Field(64 * input_.Below(2));
    wire.queue_count = static_cast<std::uint16_t>(Field(1 + input_.Below(kQueues)));
    wire.queue_size = static_cast<std::uint16_t>(Field(1U << input_.Below(11)));
    if (input_.Flip()) return SendGood(VhostRequest::kGetInflightFd, wire);
    SendGood(VhostRequest::kSetInflightFd, wire, {peer_.table.get()});
  }

  Peer& peer_;
  FuzzInput& input_;
  CheckingState state_;
  CheckingBackend backend_;
  bridge::WaitSet waits_;
  bridge::VolumeCounters counters_;
  bridge::PeerLog log_{"fuzz"};
  bridge::Budget registrations_{2, 1'000'000};
  UniqueFd ours_;
  std::unique_ptr<bridge::Session> session_;
};

}  // namespace

void FuzzOne(const std::uint8_t* data, std::size_t size) {
  static Peer peer;
  FuzzInput input(data, size);
  MessagesRun(peer, input).Run();
}

}  // namespace filer::fuzz
