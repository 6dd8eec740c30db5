#include "host-bridge/initiator/pci_layout.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>

#include "host-bridge/initiator/virtio_disk.h"

namespace filer::bridge {
namespace {

constexpr std::size_t kStatusOffset = 6;
constexpr std::uint16_t kStatusHasCapabilities = 0x10;
constexpr std::size_t kCapabilitiesOffset = 0x34;
constexpr std::uint8_t kCapabilityVendor = 0x09;

enum : std::uint8_t { kTypeCommon = 1, kTypeNotify = 2, kTypeDevice = 4 };

struct VirtioCapability {
  std::uint8_t id;
  std::uint8_t next;
  std::uint8_t length;
  std::uint8_t type;
  std::uint8_t bar;
  std::uint8_t window_id;
  std::uint8_t padding[2];
  le32 offset_bytes;
  le32 length_bytes;
};
static_assert(DiskStruct<VirtioCapability> && sizeof(VirtioCapability) == 16);
constexpr std::size_t kNotifyCapabilityBytes = sizeof(VirtioCapability) + 4;

std::uint16_t Word(std::span<const std::byte> config, std::size_t offset) {
  le16 value;
  std::memcpy(&value, config.data() + offset, sizeof value);
  return value;
}

// The window, if it lies in a BAR that exists.
std::optional<PciWindow> CheckedWindow(const VirtioCapability& capability,
                                       const std::array<std::uint64_t, kPciBarCount>& bar_bytes,
                                       std::uint32_t bytes_min) {
  if (capability.bar >= kPciBarCount || capability.length_bytes < bytes_min) return std::nullopt;
  const std::uint64_t end =
      std::uint64_t{capability.offset_bytes} + std::uint64_t{capability.length_bytes};
  if (end > bar_bytes[capability.bar] || capability.offset_bytes % 4 != 0) return std::nullopt;
  return PciWindow{capability.bar, capability.offset_bytes, capability.length_bytes};
}

Error Nonsense(const char* what) {
  return Error(Errc::kProtocol, fmt::format("the PCI function has a broken {} capability", what));
}

// Takes over one capability; the first of each type counts (VIRTIO 1.2, 4.1.4).
Result<void> Use(const VirtioCapability& capability, std::span<const std::byte> bytes,
                 const std::array<std::uint64_t, kPciBarCount>& bar_bytes, PciLayout& layout) {
  const auto take = [&](PciWindow& window, std::uint32_t bytes_min,
                        const char* what) -> Result<void> {
    if (window.length_bytes != 0) return Ok();
    const auto checked = CheckedWindow(capability, bar_bytes, bytes_min);
    if (!checked.has_value()) return Nonsense(what);
    window = *checked;
    return Ok();
  };
  switch (capability.type) {
    case kTypeCommon:
      return take(layout.common, sizeof(CommonConfig), "common configuration");
    case kTypeDevice:
      return take(layout.device, kConfigBytes, "device configuration");
    case kTypeNotify: {
      if (layout.notify.length_bytes != 0) return Ok();
      if (bytes.size() < kNotifyCapabilityBytes) return Nonsense("notification");
      le32 multiplier;
      std::memcpy(&multiplier, bytes.data() + sizeof(VirtioCapability), sizeof multiplier);
      layout.notify_multiplier = multiplier;
      return take(layout.notify, 2, "notification");
    }
    default:
      return Ok();
  }
}

}  // namespace

Result<PciLayout> ReadPciLayout(std::span<const std::byte, kPciConfigBytes> config,
                                const std::array<std::uint64_t, kPciBarCount>& bar_bytes) {
  const std::uint16_t device = Word(config, 2);
  if (Word(config, 0) != kVirtioVendor ||
      (device != kBlockDeviceModern && device != kBlockDeviceTransitional)) {
    return Error(Errc::kNotFound, "the PCI function is no virtio-blk device");
  }
  PciLayout layout;
  std::size_t at = (Word(config, kStatusOffset) & kStatusHasCapabilities) != 0
                       ? std::to_integer<std::size_t>(config[kCapabilitiesOffset]) & ~3U
                       : 0;
  // A list of aligned offsets in 256 bytes has at most 64 entries: more is a loop.
  for (std::size_t left = kPciConfigBytes / 4; at >= 0x40 && left > 0; --left) {
    const std::span<const std::byte> rest = config.subspan(at);
    const auto id = std::to_integer<std::uint8_t>(rest[0]);
    if (id == kCapabilityVendor) {
      if (rest.size() < sizeof(VirtioCapability)) return Nonsense("vendor");
      VirtioCapability capability;
      std::memcpy(&capability, rest.data(), sizeof capability);
      FILER_TRY(Use(capability, rest, bar_bytes, layout));
    }
    at = std::to_integer<std::size_t>(rest[1]) & ~3U;
  }
  if (layout.common.length_bytes == 0 || layout.notify.length_bytes == 0 ||
      layout.device.length_bytes == 0) {
    return Error(Errc::kNotSupported, "the PCI function speaks only the legacy virtio protocol");
  }
  return layout;
}

}  // namespace filer::bridge
