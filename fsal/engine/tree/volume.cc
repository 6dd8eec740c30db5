#include "fsal/engine/tree/volume.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <optional>
#include <vector>

#include "base/log.h"

namespace filer::engine {
namespace {

using Block = std::array<std::byte, kMetaBlockBytes>;

std::uint64_t SplitMix(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

Result<void> FillRandom(std::span<std::uint8_t> bytes, std::uint64_t seed) {
  if (seed == 0) {
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
      return Error::System(errno, "getrandom");
    }
    return Ok();
  }
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(SplitMix(seed));
  return Ok();
}

Result<Block> ReadBlock(BlockDevice& device, std::uint64_t block) {
  Block bytes;
  FILER_TRY(ReadBlocking(device, block * kMetaBlockBytes, bytes));
  return bytes;
}

template <DiskStruct T>
Result<void> WriteBlock(BlockDevice& device, std::uint64_t block, const T& value) {
  static_assert(sizeof(T) == kMetaBlockBytes);
  return WriteBlocking(device, block * kMetaBlockBytes, std::as_bytes(std::span(&value, 1)));
}

Result<void> WriteZeroes(BlockDevice& device, std::uint64_t first_block, std::uint64_t count) {
  const std::vector<std::byte> zeroes(count * kMetaBlockBytes);
  return WriteBlocking(device, first_block * kMetaBlockBytes, zeroes);
}

// Of two reasons why a label cannot be used, the one that says more.
Error MoreTelling(const Error& first, const Error& copy) {
  for (const auto code :
       {Errc::kNewerVersion, Errc::kNotSupported, Errc::kTooSmall, Errc::kCorrupt}) {
    if (first == code) return first;
    if (copy == code) return copy;
  }
  return first;
}

// With a seed, a volume formatted anew must still not look like the one before: mix in what is
// there.
Result<std::uint64_t> SeedOfContent(BlockDevice& device, const VolumeLayout& layout,
                                    std::uint64_t seed) {
  if (seed == 0) return seed;
  std::vector<std::byte> head((1 + kUberblockRings * kUberblocksPerRing) * kMetaBlockBytes);
  FILER_TRY(ReadBlocking(device, 0, head));
  const auto last = FILER_TRY(ReadBlock(device, layout.block_count - 1));
  if (IsZero(head) && IsZero(last)) return seed;
  seed ^= (std::uint64_t{Crc32c(head)} << 32) | Crc32c(last, Crc32c(head, 1));
  const auto mixed = SplitMix(seed);
  return mixed == 0 ? 1 : mixed;
}

Result<void> RefuseForeignOverwrite(BlockDevice& device) {
  const auto existing = LoadLabel(device);
  if (existing.has_value()) {
    return Error(Errc::kExists,
                 fmt::format("label: volume '{}' is on this device already; format with "
                             "overwrite to destroy it",
                             VolumeNameOf(existing.value().label)));
  }
  if (existing.error() == Errc::kNotOurs) return Ok();
  if (existing.error() == Errc::kCorrupt || existing.error() == Errc::kNewerVersion ||
      existing.error() == Errc::kNotSupported || existing.error() == Errc::kTooSmall) {
    return Error(Errc::kExists, "there is a volume already, though it cannot be used (" +
                                    existing.error().message() +
                                    "); format with overwrite to destroy it");
  }
  return existing.error();
}

}  // namespace

Result<void> FlushIfCached(BlockDevice& device) {
  if (!device.Info().has_volatile_cache) return Ok();
  return FlushBlocking(device);
}

std::uint64_t MixLogEpoch(const VolumeUuid& uuid, std::uint64_t mount_epoch, std::int64_t now_ns) {
  std::uint64_t state = Crc32c(std::as_bytes(std::span(uuid)));
  state ^= SplitMix(state) + mount_epoch;
  state ^= SplitMix(state) + static_cast<std::uint64_t>(now_ns);
  return SplitMix(state);
}

Result<LoadedLabel> LoadLabel(BlockDevice& device) {
  const auto device_blocks = device.Info().size_bytes / kMetaBlockBytes;
  if (device_blocks < kVolumeBytesMin / kMetaBlockBytes) {
    return Error(Errc::kTooSmall,
                 fmt::format("label: the device has {} KiB, a volume has at least {} MiB",
                             device.Info().size_bytes >> 10, kVolumeBytesMin >> 20));
  }
  // A block that cannot be read counts as damaged: its copy is what it is for.
  const auto decode_at = [&](std::uint64_t block) -> Result<Label> {
    const auto bytes = FILER_TRY(ReadBlock(device, block));
    return DecodeLabel(bytes, block, device_blocks);
  };
  const auto first = decode_at(0);
  if (first.has_value()) {
    const auto copy = decode_at(first.value().block_count - 1);
    LoadedLabel loaded{first.value()};
    loaded.is_copy_damaged = !copy.has_value() || !IsSameUuid(copy.value().volume_uuid,
                                                              ToUuid(first.value().volume_uuid));
    return loaded;
  }
  for (const auto code : {Errc::kNewerVersion, Errc::kNotSupported, Errc::kTooSmall}) {
    if (first.error() == code) return first.error();
  }
  const auto copy = decode_at(device_blocks - 1);
  if (!copy.has_value()) return MoreTelling(first.error(), copy.error());
  LoadedLabel loaded{copy.value()};
  loaded.is_first_damaged = true;
  return loaded;
}

Result<void> WriteLabel(BlockDevice& device, Label label, bool first, bool copy) {
  const std::uint64_t last_block = label.block_count - 1;
  if (copy) {
    label.own_block = last_block;
    Seal(label);
    FILER_TRY(WriteBlock(device, last_block, label));
  }
  if (first) {
    label.own_block = 0;
    Seal(label);
    FILER_TRY(WriteBlock(device, 0, label));
  }
  return Ok();
}

Result<Uberblock> LoadUberblock(BlockDevice& device, const VolumeLayout& layout,
                                const VolumeUuid& uuid) {
  std::optional<Uberblock> newest;
  std::optional<Error> newer_version;
  std::vector<std::byte> rings(kUberblockRings * kUberblocksPerRing * kMetaBlockBytes);
  const auto first = layout.uberblock_first_block;
  const auto is_read = ReadBlocking(device, first * kMetaBlockBytes, rings);
  for (std::uint64_t at = 0; at < kUberblockRings * kUberblocksPerRing; ++at) {
    const auto bytes = std::span(rings).subspan(at * kMetaBlockBytes, kMetaBlockBytes);
    // One bad sector must not take the other ring with it.
    if (!is_read.has_value() &&
        !ReadBlocking(device, (first + at) * kMetaBlockBytes, bytes).has_value()) {
      continue;
    }
    const auto root = DecodeUberblock(bytes, layout, uuid, first + at);
    if (root.has_value()) {
      if (!newest || root.value().epoch > newest->epoch) newest = root.value();
    } else if (root.error() == Errc::kNewerVersion) {
      newer_version = root.error();
    }
  }
  if (newer_version) return *newer_version;
  if (newest) return *newest;
  if (!is_read.has_value()) return is_read.error();
  return Error(Errc::kCorrupt,
               "uberblocks: none of either ring verifies; restore the volume from a backup");
}

Result<void> WriteUberblock(BlockDevice& device, const VolumeLayout& layout, Uberblock root,
                            const BufferRef& buffer) {
  for (std::uint32_t ring = 0; ring < kUberblockRings; ++ring) {
    root.own_block = UberblockBlock(layout, ring, root.epoch);
    Seal(root);
    StoreStruct(buffer.bytes(), root);
    const iovec segment = {buffer.data(), sizeof(root)};
    BlockRequest request;
    request.operation = BlockOperation::kWrite;
    request.offset_bytes = root.own_block * kMetaBlockBytes;
    request.length_bytes = sizeof(root);
    request.segments = std::span(&segment, 1);
    FILER_TRY(device.SubmitAndWait(request));
  }
  return FlushIfCached(device);
}

Result<void> FormatVolume(BlockDevice& device, const StoreFormatOptions& options) {
  if (!IsVolumeName(options.volume_name)) {
    return Error(Errc::kInvalidName,
                 fmt::format("volume name '{}': 1 to {} letters, digits, '.', '_' or '-'",
                             options.volume_name, kVolumeNameBytesMax));
  }
  const auto info = device.Info();
  const auto layout = FILER_TRY(PlanVolume(info.size_bytes));
  if (info.is_read_only) return Error(Errc::kReadOnly, "format: the device is read-only");
  if (!options.overwrite) FILER_TRY(RefuseForeignOverwrite(device));

  VolumeUuid uuid{};
  std::uint8_t handle_key[16];
  auto seed = FILER_TRY(SeedOfContent(device, layout, options.random_seed));
  FILER_TRY(FillRandom(uuid, seed));
  FILER_TRY(FillRandom(handle_key, seed == 0 ? 0 : seed + 1));
  // RFC 9562: a random UUID.
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0F) | 0x40);
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3F) | 0x80);

  // First the old volume goes, then the new one comes: a crash in between leaves none.
  FILER_TRY(WriteZeroes(device, 0, 1 + kUberblockRings * kUberblocksPerRing));
  FILER_TRY(WriteZeroes(device, layout.log_first_block, 1));
  FILER_TRY(WriteZeroes(device, layout.block_count - 1, 1));
  FILER_TRY(FlushIfCached(device));

  Uberblock root{};
  root.magic = kUberblockMagic;
  root.version = kFormatVersion;
  root.is_clean = 1;
  std::copy(uuid.begin(), uuid.end(), root.volume_uuid);
  root.epoch = 1;
  root.log_epoch = MixLogEpoch(uuid, 0, 0);
  const auto buffer = FILER_TRY(device.Pool().Allocate(kMetaBlockBytes));
  FILER_TRY(WriteUberblock(device, layout, root, buffer));

  const auto label = MakeLabel(layout, options.volume_name, uuid, handle_key);
  FILER_TRY(WriteLabel(device, label, true, true));
  return FlushIfCached(device);
}

}  // namespace filer::engine
