// vhost_user.h: messages of the vhost-user protocol (QEMU's docs/interop/vhost-user.rst), as far as
// a block device needs them, and the functions that move one message with its descriptors over a
// Unix stream socket. Every message is a VhostHeader and `payload_bytes` bytes of one of the
// payloads below; the table at the request names which, and how many descriptors travel with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/file.h"
#include "base/result.h"

struct msghdr;

namespace filer::virtio {

// Requests of the front end.                  payload              descriptors  answer
enum class VhostRequest : std::uint32_t {
  kGetFeatures = 1,           // -                    0            u64
  kSetFeatures = 2,           // u64                  0
  kSetOwner = 3,              // -                    0
  kResetOwner = 4,            // -                    0 (deprecated)
  kSetMemTable = 5,           // VhostMemoryTable     1 per region
  kSetLogBase = 6,            // -
  kSetLogFd = 7,              // -
  kSetVringNum = 8,           // VhostVringState      0
  kSetVringAddr = 9,          // VhostVringAddress    0
  kSetVringBase = 10,         // VhostVringState      0
  kGetVringBase = 11,         // VhostVringState      0            VhostVringState
  kSetVringKick = 12,         // u64 index            1, 0 with kVringNoFd
  kSetVringCall = 13,         // u64 index            1, 0 with kVringNoFd
  kSetVringErr = 14,          // u64 index            1, 0 with kVringNoFd
  kGetProtocolFeatures = 15,  // -                  0            u64
  kSetProtocolFeatures = 16,  // u64                0
  kGetQueueNum = 17,          // -                    0            u64
  kSetVringEnable = 18,       // VhostVringState      0
  kSetBackendReqFd = 21,      // -                    1
  kIotlbMessage = 22,         // VhostIotlb           0            u64, always
  kGetConfig = 24,            // VhostConfig          0            VhostConfig
  kSetConfig = 25,            // VhostConfig          0
  kGetInflightFd = 31,        // VhostInflight        0            VhostInflight + 1 descriptor
  kSetInflightFd = 32,        // VhostInflight        1
  kGpuSetSocket = 33,
  kResetDevice = 34,     // -                    0
  kGetMaxMemSlots = 36,  // -                    0            u64
  kAddMemReg = 37,       // VhostSingleRegion    1
  kRemMemReg = 38,       // VhostSingleRegion    0 (or 1, to be closed)
  kSetStatus = 39,       // u64                  0
  kGetStatus = 40,       // -                    0            u64
};

// Requests of the back end, on the channel that kSetBackendReqFd gave.
enum class VhostBackendRequest : std::uint32_t {
  kIotlbMessage = 1,   // VhostIotlb: a miss
  kConfigChanged = 2,  // -
};

// Bits of kGetFeatures beyond the device's own.
inline constexpr std::uint64_t kFeatureVhostLogAll = 1ULL << 26;
inline constexpr std::uint64_t kFeatureVhostProtocolFeatures = 1ULL << 30;

// Protocol features, as masks.
inline constexpr std::uint64_t kProtocolMultiQueue = 1ULL << 0;
inline constexpr std::uint64_t kProtocolReplyAck = 1ULL << 3;
inline constexpr std::uint64_t kProtocolBackendRequest = 1ULL << 5;
inline constexpr std::uint64_t kProtocolConfig = 1ULL << 9;
inline constexpr std::uint64_t kProtocolBackendSendFd = 1ULL << 10;
inline constexpr std::uint64_t kProtocolInflight = 1ULL << 12;
inline constexpr std::uint64_t kProtocolResetDevice = 1ULL << 13;
inline constexpr std::uint64_t kProtocolMemorySlots = 1ULL << 15;
inline constexpr std::uint64_t kProtocolStatus = 1ULL << 16;

// VhostHeader::flags.
inline constexpr std::uint32_t kVhostVersionMask = 0x3;
inline constexpr std::uint32_t kVhostVersion = 0x1;
inline constexpr std::uint32_t kVhostReply = 0x4;
inline constexpr std::uint32_t kVhostNeedReply = 0x8;

struct VhostHeader {
  le32 request;
  le32 flags;
  le32 payload_bytes;
};
static_assert(DiskStruct<VhostHeader> && sizeof(VhostHeader) == 12);

struct VhostU64 {
  le64 value;
};
static_assert(DiskStruct<VhostU64> && sizeof(VhostU64) == 8);

// The u64 of kick, call and err.
inline constexpr std::uint64_t kVringIndexMask = 0xff;
inline constexpr std::uint64_t kVringNoFd = 0x100;

struct VhostVringState {
  le32 index;
  le32 value;  // size, base, or 0 / 1
};
static_assert(DiskStruct<VhostVringState> && sizeof(VhostVringState) == 8);

// Addresses are of the front end's address space (user_address of a region), or IOVAs with
// ACCESS_PLATFORM.
struct VhostVringAddress {
  le32 index;
  le32 flags;
  le64 descriptor_address;
  le64 used_address;
  le64 avail_address;
  le64 log_address;
};
static_assert(DiskStruct<VhostVringAddress> && sizeof(VhostVringAddress) == 40);

struct VhostRegion {
  le64 guest_address;
  le64 size_bytes;
  le64 user_address;
  le64 mmap_offset;
};
static_assert(DiskStruct<VhostRegion> && sizeof(VhostRegion) == 32);

inline constexpr std::uint32_t kVhostTableRegionsMax = 8;  // of one kSetMemTable

// payload_bytes is 8 + 32 * region_count.
struct VhostMemoryTable {
  le32 region_count;
  le32 padding;
  VhostRegion regions[kVhostTableRegionsMax];
};
static_assert(DiskStruct<VhostMemoryTable> && sizeof(VhostMemoryTable) == 264);

struct VhostSingleRegion {
  le64 padding;
  VhostRegion region;
};
static_assert(DiskStruct<VhostSingleRegion> && sizeof(VhostSingleRegion) == 40);

inline constexpr std::size_t kVhostConfigBytesMax = 256;

// payload_bytes is 12 + size_bytes.
struct VhostConfig {
  le32 offset;
  le32 size_bytes;
  le32 flags;
  std::uint8_t data[kVhostConfigBytesMax];
};
static_assert(DiskStruct<VhostConfig> && sizeof(VhostConfig) == 268);

// QEMU sends the struct unpacked (24 bytes, the last four unused); libblkio 20: both are accepted,
// and the answer has the size of the question.
struct VhostInflight {
  le64 mmap_size_bytes;
  le64 mmap_offset;
  le16 queue_count;
  le16 queue_size;
};
static_assert(DiskStruct<VhostInflight> && sizeof(VhostInflight) == 20);

enum class VhostIotlbType : std::uint8_t {
  kMiss = 1,
  kUpdate = 2,
  kInvalidate = 3,
  kAccessFail = 4,
};
inline constexpr std::uint8_t kIotlbRead = 1;
inline constexpr std::uint8_t kIotlbWrite = 2;

struct VhostIotlb {
  le64 iova;
  le64 size_bytes;
  le64 user_address;  // front end's address space
  std::uint8_t permission;
  std::uint8_t type;
  std::uint8_t padding[6];
};
static_assert(DiskStruct<VhostIotlb> && sizeof(VhostIotlb) == 32);

inline constexpr std::size_t kVhostPayloadBytesMax = 512;  // larger is refused
inline constexpr std::size_t kVhostFdsMax = kVhostTableRegionsMax;

// One message, received or to be sent. Owns the descriptors.
struct VhostMessage {
  VhostHeader header{};
  std::array<std::byte, kVhostPayloadBytesMax> payload{};
  std::array<UniqueFd, kVhostFdsMax> fds;
  std::size_t fd_count = 0;

  // The payload as a typed view, or nullptr when its size is not exactly that of T.
  template <DiskStruct T>
  const T* As() const {
    return header.payload_bytes == sizeof(T) ? reinterpret_cast<const T*>(payload.data()) : nullptr;
  }
};

// "SET_MEM_TABLE" and so on; "request" for an unknown one.
std::string_view VhostRequestName(std::uint32_t request);

// Sends header, payload and descriptors (which stay the caller's) as one message. Blocks while the
// socket is full, at most as long as its SO_SNDTIMEO; not at all with MSG_DONTWAIT in `send_flags`.
// Errors: kDeviceGone, kTimedOut, kSystem.
Result<void> SendVhostMessage(int socket, const VhostHeader& header,
                              std::span<const std::byte> payload, std::span<const int> fds,
                              int send_flags = 0);

// Receives one whole message; blocks, at most as long as SO_RCVTIMEO. Errors: kDeviceGone when the
// peer closed or died, kTimedOut, kProtocol for a wrong version, a too large payload or too many
// descriptors (all of which are closed).
Result<VhostMessage> ReceiveVhostMessage(int socket);

// The same without blocking, for one socket: keeps what has come of the next message. It keeps also
// what descriptors there are too many of, until it is destroyed: closing them may block.
class VhostReceiver {
 public:
  // True: a message is complete, take it with Take. False: nothing more to read for now. Errors as
  // above; `recv_flags` is MSG_DONTWAIT, or 0 to wait for the whole message.
  Result<bool> Advance(int socket, int recv_flags);
  VhostMessage Take();

 private:
  VhostMessage message_;
  Result<std::size_t> ReceiveSome(int socket, int flags, std::byte* data, std::size_t size);
  bool TakeDescriptors(msghdr& message);

  std::size_t received_bytes_ = 0;  // header and payload
  std::vector<UniqueFd> surplus_;
};

}  // namespace filer::virtio
