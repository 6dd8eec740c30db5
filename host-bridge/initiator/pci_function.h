// pci_function.h: access to one PCI function from user space: its configuration space, its BARs,
// and DMA. Two ways: through sysfs (the function has no driver, or uio_pci_generic), where DMA uses
// physical addresses; or through VFIO, behind an IOMMU. Holds the function exclusively against
// other processes that come this way. Blocking; one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "host-bridge/initiator/pci_layout.h"

namespace filer::bridge {

class PciFunction {
 public:
  virtual ~PciFunction() = default;  // bus mastering off, everything unmapped

  virtual bool IsVfio() const = 0;
  virtual Result<void> ReadConfig(std::uint64_t offset, std::span<std::byte> bytes) = 0;
  virtual Result<void> WriteConfig(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // 0: no memory BAR with that number.
  virtual std::array<std::uint64_t, kPciBarCount> BarSizes() const = 0;
  // The whole BAR; stays mapped until the destructor.
  virtual Result<std::span<std::byte>> MapBar(std::uint32_t bar) = 0;
  // VFIO only: the device sees `memory` at `iova`.
  virtual Result<void> MapDma(std::span<std::byte> memory, std::uint64_t iova) = 0;

  // Memory access and DMA on, interrupt line off; or DMA off.
  Result<void> SetBusMaster(bool is_on);
};

// Errors: kNotFound, kBusy (a kernel driver or another process has it; the message says what to
// do), kAccessDenied, kNotSupported.
Result<std::unique_ptr<PciFunction>> OpenPciFunction(const std::string& address,
                                                     const std::string& sysfs_root = "/sys");

// vfio_function.cc
Result<std::unique_ptr<PciFunction>> OpenVfioFunction(const std::string& address,
                                                      const std::string& group);

}  // namespace filer::bridge
