// open_device.h: from a device string to a BlockDevice.
//   "vhost_user:/path.sock"  the bridge, without a guest      "file:/path/volume.img"  a file of
//   this machine, no bridge, no EAL "pci:0000:00:10.0"       the bridge, inside the guest
//   "pci:serial=NAME"        the same, found by its serial
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "host-bridge/initiator/initiator.h"

namespace filer::engine {

struct OpenDeviceOptions {
  std::uint64_t memory_bytes =
      512ULL << 20;  // of the process for I/O, at least 64 MiB; the pool is a little smaller
  bool use_huge_pages = false;  // needed by pci without an IOMMU
  bool is_read_only = false;    // file only: the bridge's volumes are opened as the bridge says
  std::uint32_t queue_count = 1;
  std::uint32_t queue_size = 256;
};

struct OpenedDevice {
  std::unique_ptr<BlockDevice> device;
  std::string transport;  // "vhost_user", "pci/uio", "pci/vfio", "file"
  // Counters of the bridge since the device was opened; zero for files. Any thread, while `device`
  // lives.
  std::function<bridge::DiskCounters()> counters;
  // False while the other end is gone. As above.
  std::function<bool()> is_connected;
};

// Starts the EAL when the transport needs it and it does not run yet. Blocking. Errors: those of
// InitEal, AttachVhostUser, AttachPci, OpenFileDevice; kUsage for a string of another form.
Result<OpenedDevice> OpenVolumeDevice(const std::string& spec,
                                      const OpenDeviceOptions& options = {});

}  // namespace filer::engine
