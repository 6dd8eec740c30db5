// block.h: feature bits, configuration space and requests of virtio-blk (VIRTIO 1.2, sections 5.2
// and 6). Layouts are DiskStructs; values are in host order unless the type says le.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/endian.h"

namespace filer::virtio {

// Feature bits, as masks.
inline constexpr std::uint64_t kBlockSegmentSizeMax = 1ULL << 1;  // VIRTIO_BLK_F_SIZE_MAX
inline constexpr std::uint64_t kBlockSegmentsMax = 1ULL << 2;     // VIRTIO_BLK_F_SEG_MAX
inline constexpr std::uint64_t kBlockReadOnly = 1ULL << 5;        // VIRTIO_BLK_F_RO
inline constexpr std::uint64_t kBlockBlockSize = 1ULL << 6;       // VIRTIO_BLK_F_BLK_SIZE
inline constexpr std::uint64_t kBlockFlush = 1ULL << 9;           // VIRTIO_BLK_F_FLUSH
inline constexpr std::uint64_t kBlockTopology = 1ULL << 10;       // VIRTIO_BLK_F_TOPOLOGY
inline constexpr std::uint64_t kBlockConfigWce = 1ULL << 11;      // VIRTIO_BLK_F_CONFIG_WCE
inline constexpr std::uint64_t kBlockMultiQueue = 1ULL << 12;     // VIRTIO_BLK_F_MQ
inline constexpr std::uint64_t kBlockDiscard = 1ULL << 13;        // VIRTIO_BLK_F_DISCARD
inline constexpr std::uint64_t kBlockWriteZeroes = 1ULL << 14;    // VIRTIO_BLK_F_WRITE_ZEROES
inline constexpr std::uint64_t kFeatureRingIndirect = 1ULL << 28;
inline constexpr std::uint64_t kFeatureRingEventIndex = 1ULL << 29;
inline constexpr std::uint64_t kFeatureVersion1 = 1ULL << 32;
inline constexpr std::uint64_t kFeatureAccessPlatform = 1ULL << 33;
inline constexpr std::uint64_t kFeatureRingPacked = 1ULL << 34;
inline constexpr std::uint64_t kFeatureInOrder = 1ULL << 35;
inline constexpr std::uint64_t kFeatureNotificationData = 1ULL << 38;
inline constexpr std::uint64_t kFeatureRingReset = 1ULL << 40;

// Request types (RequestHeader::type).
inline constexpr std::uint32_t kRequestIn = 0;   // read
inline constexpr std::uint32_t kRequestOut = 1;  // write
inline constexpr std::uint32_t kRequestFlush = 4;
inline constexpr std::uint32_t kRequestGetId = 8;
inline constexpr std::uint32_t kRequestDiscard = 11;
inline constexpr std::uint32_t kRequestWriteZeroes = 13;

// The status byte at the end of each request.
inline constexpr std::uint8_t kStatusOk = 0;
inline constexpr std::uint8_t kStatusIoError = 1;
inline constexpr std::uint8_t kStatusUnsupported = 2;

inline constexpr std::size_t kIdBytes = 20;  // answer of kRequestGetId, zero-padded

// First device-readable bytes of each request.
struct RequestHeader {
  le32 type;
  le32 reserved;
  le64 sector;  // of 512 bytes
};
static_assert(DiskStruct<RequestHeader> && sizeof(RequestHeader) == 16);

// Payload of discard and write-zeroes: one or more of these.
struct RangeSegment {
  le64 sector;
  le32 sector_count;
  le32 flags;  // kRangeUnmap, for write-zeroes only
};
static_assert(DiskStruct<RangeSegment> && sizeof(RangeSegment) == 16);
inline constexpr std::uint32_t kRangeUnmap = 1;

// Configuration space.
struct BlockConfig {
  le64 capacity_sectors;  // of 512 bytes, whatever block_bytes says
  le32 segment_bytes_max;
  le32 segments_max;  // data segments of one request
  le16 cylinders;
  std::uint8_t heads;
  std::uint8_t sectors;
  le32 block_bytes;
  std::uint8_t physical_block_exponent;
  std::uint8_t alignment_offset;
  le16 io_bytes_min;
  le32 io_bytes_optimal;
  std::uint8_t is_write_back;
  std::uint8_t unused0;
  le16 queue_count;
  le32 discard_sectors_max;
  le32 discard_segments_max;
  le32 discard_alignment_sectors;
  le32 write_zeroes_sectors_max;
  le32 write_zeroes_segments_max;
  std::uint8_t write_zeroes_may_unmap;
  std::uint8_t unused1[3];
  le32 secure_erase_sectors_max;
  le32 secure_erase_segments_max;
  le32 secure_erase_alignment_sectors;
};
static_assert(DiskStruct<BlockConfig> && sizeof(BlockConfig) == 72);
static_assert(offsetof(BlockConfig, block_bytes) == 20 && offsetof(BlockConfig, queue_count) == 34);
static_assert(offsetof(BlockConfig, discard_sectors_max) == 36);
static_assert(offsetof(BlockConfig, write_zeroes_may_unmap) == 56);

// The device status register of the PCI transport (VIRTIO 1.2, 2.1), also sent as SET_STATUS.
inline constexpr std::uint8_t kDeviceAcknowledge = 1;
inline constexpr std::uint8_t kDeviceDriver = 2;
inline constexpr std::uint8_t kDeviceDriverOk = 4;
inline constexpr std::uint8_t kDeviceFeaturesOk = 8;
inline constexpr std::uint8_t kDeviceNeedsReset = 64;
inline constexpr std::uint8_t kDeviceFailed = 128;

}  // namespace filer::virtio
