// label.h: the volume's label: who it is and where its fixed parts lie. Written at format, in block
// 0 and in the device's last block; the copy saves a volume whose block 0 is damaged. Invariants:
// the parts follow one another in the order of the fields, do not overlap, and end before the last
// block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"

namespace filer::engine {

inline constexpr std::uint64_t kLabelMagic = 0x4C424C4C4154454DULL;  // "METALLBL"
inline constexpr std::uint32_t kFormatVersion = 4;  // 1 to 3: early builds, never released
inline constexpr std::size_t kVolumeNameBytesMax = 63;
inline constexpr std::uint32_t kUberblockRings = 2;
inline constexpr std::uint32_t kUberblocksPerRing = 64;

struct Label {
  le64 magic;        // kLabelMagic
  le32 version;      // raised on every incompatible change
  le32 block_bytes;  // 4096
  std::uint8_t volume_uuid[16];
  le64 compat;                 // unknown bits: mount
  le64 ro_compat;              // unknown bits: mount read-only
  le64 incompat;               // unknown bits: refuse
  le64 own_block;              // where this copy lies
  le64 block_count;            // of the device, at format
  le64 uberblock_first_block;  // ring 0, then ring 1
  le64 log_first_block;
  le64 log_block_count;
  le64 node_first_block;  // nodes of the metadata tree
  le64 node_block_count;
  le64 map_first_block;  // of used space (space_block.h)
  le64 map_block_count;
  le64 data_first_block;
  le64 data_block_count;
  std::uint8_t handle_key[16];
  std::uint8_t volume_name[64];  // padded with zeroes, at least one
  std::uint8_t reserved[3868];   // zero
  le32 crc32c;                   // of every byte above
};
static_assert(DiskStruct<Label>);
static_assert(sizeof(Label) == kMetaBlockBytes && offsetof(Label, crc32c) == 4092);

// Block numbers of the fixed parts, of a device of `device_bytes`. Errors: kTooSmall.
struct VolumeLayout {
  std::uint64_t block_count = 0;
  std::uint64_t uberblock_first_block = 0;
  std::uint64_t log_first_block = 0;
  std::uint64_t log_block_count = 0;
  std::uint64_t node_first_block = 0;
  std::uint64_t node_block_count = 0;
  std::uint64_t map_first_block = 0;
  std::uint64_t map_block_count = 0;
  std::uint64_t data_first_block = 0;
  std::uint64_t data_block_count = 0;
};
Result<VolumeLayout> PlanVolume(std::uint64_t device_bytes);

// An unsealed label of `layout`. `name` was checked with IsVolumeName.
Label MakeLabel(const VolumeLayout& layout, std::string_view name, const VolumeUuid& uuid,
                const std::uint8_t (&handle_key)[16]);

// 1 to 63 bytes of [A-Za-z0-9._-].
bool IsVolumeName(std::string_view name) noexcept;

// The label in `bytes` (one block read from `at_block` of a device of `device_blocks`), checked in
// full. Errors: kNotOurs, kCorrupt, kNewerVersion, kNotSupported (of an early version), kTooSmall
// (the device was cut).
Result<Label> DecodeLabel(std::span<const std::byte> bytes, std::uint64_t at_block,
                          std::uint64_t device_blocks);

VolumeLayout LayoutOf(const Label& label) noexcept;
std::string VolumeNameOf(const Label& label);

}  // namespace filer::engine
