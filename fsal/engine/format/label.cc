#include "fsal/engine/format/label.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/format/space_block.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kBlocksPerMiB = kMiB / kMetaBlockBytes;
constexpr std::uint64_t kVolumeBytesLeast = 64 * kMiB;
constexpr std::uint64_t kLogBytesLeast = 8 * kMiB;
constexpr std::uint64_t kLogBytesMost = 1024 * kMiB;
constexpr std::uint64_t kNodeBytesLeast = 32 * kMiB;
constexpr std::uint64_t kVolumeBlocksMost = 1ULL
                                            << 44;  // 64 PiB: sums of block numbers never overflow
constexpr std::uint64_t kLabelsAndRings = 1 + kUberblockRings * kUberblocksPerRing;

Error Corrupt(std::uint64_t at_block, std::string_view what) {
  return Error(Errc::kCorrupt, fmt::format("label in block {}: {}", at_block, what));
}

// Two places for each block of the map.
std::uint64_t MapBlocksFor(const VolumeLayout& layout) noexcept {
  return 2 * (SpaceBlocksFor(layout.node_block_count / kNodeBlocks) +
              SpaceBlocksFor(layout.data_block_count));
}

// Parts in order, whole MiB where code relies on it, nothing beyond the device.
bool IsSound(const VolumeLayout& layout) noexcept {
  if (layout.block_count > kVolumeBlocksMost) return false;
  const std::uint64_t end = layout.block_count - 1;  // the copy of the label
  for (const auto value :
       {layout.uberblock_first_block, layout.log_first_block, layout.log_block_count,
        layout.node_first_block, layout.node_block_count, layout.map_first_block,
        layout.map_block_count, layout.data_first_block, layout.data_block_count}) {
    if (value > end) return false;
  }
  return layout.uberblock_first_block >= 1 &&
         layout.uberblock_first_block + kLabelsAndRings - 1 <= layout.log_first_block &&
         layout.log_block_count >= kLogBytesLeast / kMetaBlockBytes &&
         layout.log_first_block + layout.log_block_count <= layout.node_first_block &&
         layout.node_block_count >= kNodeBytesLeast / kMetaBlockBytes &&
         layout.node_block_count % kBlocksPerMiB == 0 &&
         layout.node_first_block + layout.node_block_count <= layout.map_first_block &&
         layout.map_block_count >= MapBlocksFor(layout) &&
         layout.map_first_block + layout.map_block_count <= layout.data_first_block &&
         layout.data_first_block + layout.data_block_count <= end;
}

}  // namespace

Result<VolumeLayout> PlanVolume(std::uint64_t device_bytes) {
  if (device_bytes < kVolumeBytesLeast) {
    return Error(Errc::kTooSmall,
                 fmt::format("a volume needs at least {} MiB, this device has {} MiB",
                             kVolumeBytesLeast / kMiB, device_bytes / kMiB));
  }
  VolumeLayout layout;
  layout.block_count = device_bytes / kMetaBlockBytes;
  layout.uberblock_first_block = 1;
  layout.log_first_block = RoundUp(kLabelsAndRings, kBlocksPerMiB);
  const auto share = RoundDown(device_bytes / 32, kMiB);
  layout.log_block_count = std::clamp(share, kLogBytesLeast, kLogBytesMost) / kMetaBlockBytes;
  layout.node_block_count = std::max(2 * share, kNodeBytesLeast) / kMetaBlockBytes;
  layout.node_first_block = layout.log_first_block + layout.log_block_count;
  layout.map_first_block = layout.node_first_block + layout.node_block_count;
  // A few too many: the map lies in what it is counted for.
  layout.data_block_count = layout.block_count - 1 - layout.map_first_block;
  layout.map_block_count = MapBlocksFor(layout);
  layout.data_first_block = layout.map_first_block + layout.map_block_count;
  layout.data_block_count = layout.block_count - 1 - layout.data_first_block;
  FILER_ASSERT(IsSound(layout));
  return layout;
}

bool IsVolumeName(std::string_view name) noexcept {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kVolumeNameBytesMax &&
         std::all_of(name.begin(), name.end(), is_allowed);
}

Label MakeLabel(const VolumeLayout& layout, std::string_view name, const VolumeUuid& uuid,
                const std::uint8_t (&handle_key)[16]) {
  FILER_ASSERT(IsVolumeName(name));
  Label label{};
  label.magic = kLabelMagic;
  label.version = kFormatVersion;
  label.block_bytes = kMetaBlockBytes;
  std::copy(uuid.begin(), uuid.end(), label.volume_uuid);
  label.block_count = layout.block_count;
  label.uberblock_first_block = layout.uberblock_first_block;
  label.log_first_block = layout.log_first_block;
  label.log_block_count = layout.log_block_count;
  label.node_first_block = layout.node_first_block;
  label.node_block_count = layout.node_block_count;
  label.map_first_block = layout.map_first_block;
  label.map_block_count = layout.map_block_count;
  label.data_first_block = layout.data_first_block;
  label.data_block_count = layout.data_block_count;
  std::copy(std::begin(handle_key), std::end(handle_key), label.handle_key);
  std::copy(name.begin(), name.end(), label.volume_name);
  return label;
}

VolumeLayout LayoutOf(const Label& label) noexcept {
  VolumeLayout layout;
  layout.block_count = label.block_count;
  layout.uberblock_first_block = label.uberblock_first_block;
  layout.log_first_block = label.log_first_block;
  layout.log_block_count = label.log_block_count;
  layout.node_first_block = label.node_first_block;
  layout.node_block_count = label.node_block_count;
  layout.map_first_block = label.map_first_block;
  layout.map_block_count = label.map_block_count;
  layout.data_first_block = label.data_first_block;
  layout.data_block_count = label.data_block_count;
  return layout;
}

std::string VolumeNameOf(const Label& label) {
  const auto* end = std::find(std::begin(label.volume_name), std::end(label.volume_name), 0);
  return {std::begin(label.volume_name), end};
}

Result<Label> DecodeLabel(std::span<const std::byte> bytes, std::uint64_t at_block,
                          std::uint64_t device_blocks) {
  FILER_ASSERT(bytes.size() == sizeof(Label));
  const auto label = LoadStruct<Label>(bytes);
  if (label.magic != kLabelMagic) {
    return Error(Errc::kNotOurs,
                 fmt::format("label in block {}: not a Nearmetal volume", at_block));
  }
  if (label.crc32c != ChecksumOf(label)) return Corrupt(at_block, "checksum does not match");
  if (label.version > kFormatVersion || label.incompat != 0) {
    return Error(
        Errc::kNewerVersion,
        fmt::format("label in block {}: format version {}, features {:#x}; this release "
                    "reads version {}: use a newer release",
                    at_block, label.version.value(), label.incompat.value(), kFormatVersion));
  }
  if (label.version == 0) return Corrupt(at_block, "version 0");
  if (label.version < kFormatVersion) {
    return Error(Errc::kNotSupported,
                 fmt::format("label in block {}: format version {} of an early build, this release "
                             "reads version {}: copy the files with that build, then format anew",
                             at_block, label.version.value(), kFormatVersion));
  }
  if (label.block_bytes != kMetaBlockBytes) return Corrupt(at_block, "block size is not 4096");
  if (label.own_block != at_block) return Corrupt(at_block, "belongs to another block");
  if (!IsZero(label.reserved)) return Corrupt(at_block, "reserved space is not zero");
  const auto* name_end = std::find(std::begin(label.volume_name), std::end(label.volume_name), 0);
  const auto name_bytes = static_cast<std::size_t>(name_end - std::begin(label.volume_name));
  if (!IsVolumeName(VolumeNameOf(label))) return Corrupt(at_block, "volume name is not valid");
  if (!IsZero(std::as_bytes(std::span(label.volume_name)).subspan(name_bytes))) {
    return Corrupt(at_block, "bytes behind the volume name are not zero");
  }
  if (label.block_count > device_blocks) {
    return Error(
        Errc::kTooSmall,
        fmt::format("label in block {}: the volume has {} blocks, the device only {}: it was cut",
                    at_block, label.block_count.value(), device_blocks));
  }
  const auto layout = LayoutOf(label);
  if (layout.block_count < kVolumeBytesLeast / kMetaBlockBytes || !IsSound(layout)) {
    return Corrupt(at_block, "geometry does not fit");
  }
  return label;
}

}  // namespace filer::engine
