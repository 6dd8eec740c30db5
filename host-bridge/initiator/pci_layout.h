// pci_layout.h: the virtio PCI transport's registers (VIRTIO 1.2, 4.1) and the walk that finds them
// in a function's configuration space. The configuration space is foreign: every offset is checked
// against the BAR it points into.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/result.h"

namespace filer::bridge {

inline constexpr std::uint16_t kVirtioVendor = 0x1af4;
inline constexpr std::uint16_t kBlockDeviceModern = 0x1042;
inline constexpr std::uint16_t kBlockDeviceTransitional = 0x1001;

inline constexpr std::size_t kPciBarCount = 6;
inline constexpr std::size_t kPciConfigBytes = 256;

// Offsets in the configuration space, and bits of the command register.
inline constexpr std::size_t kPciCommandOffset = 4;
inline constexpr std::uint16_t kPciCommandMemory = 0x2;
inline constexpr std::uint16_t kPciCommandBusMaster = 0x4;
inline constexpr std::uint16_t kPciCommandNoInterrupt = 0x400;

// virtio_pci_common_cfg. Read and written field by field, 64-bit fields as two halves.
struct CommonConfig {
  le32 device_feature_select;
  le32 device_feature;
  le32 driver_feature_select;
  le32 driver_feature;
  le16 config_msix_vector;
  le16 queue_count;
  std::uint8_t device_status;
  std::uint8_t config_generation;
  le16 queue_select;
  le16 queue_size;
  le16 queue_msix_vector;
  le16 queue_enable;
  le16 queue_notify_offset;
  le64 queue_descriptors;
  le64 queue_avail;
  le64 queue_used;
};
static_assert(DiskStruct<CommonConfig> && sizeof(CommonConfig) == 56);
static_assert(offsetof(CommonConfig, queue_descriptors) == 32);

// A window of registers inside a BAR.
struct PciWindow {
  std::uint8_t bar = 0;
  std::uint32_t offset_bytes = 0;
  std::uint32_t length_bytes = 0;
};
struct PciLayout {
  PciWindow common;
  PciWindow notify;
  PciWindow device;
  std::uint32_t notify_multiplier = 0;
};

// `bar_bytes`: size of each memory BAR, 0 where there is none. Errors: kNotFound (not a virtio-blk
// function), kNotSupported (legacy only), kProtocol (nonsense).
Result<PciLayout> ReadPciLayout(std::span<const std::byte, kPciConfigBytes> config,
                                const std::array<std::uint64_t, kPciBarCount>& bar_bytes);

}  // namespace filer::bridge
