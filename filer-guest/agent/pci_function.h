// pci_function.h: hands a PCI function from the kernel's driver to a driver in user space, through
// sysfs. Threads: one at a time per function.
#pragma once

#include <string>

#include "base/result.h"

namespace filer::agent {

// "0000:00:10.0" and nothing else.
bool IsPciAddress(const std::string& address);

// Binds the function to vfio-pci when it lies behind an IOMMU, else to uio_pci_generic; whoever had
// it is unbound first. Bound already: ok. Returns the driver's name. `sysfs` is "/sys" but for
// tests. Errors: kInvalidArgument, kNotFound, kSystem.
Result<std::string> GiveToUserSpace(const std::string& address, const std::string& sysfs = "/sys");

// Reserves at least `megabytes` of free 2 MiB pages. Errors: kNoMemory saying how many there are,
// kNotSupported.
Result<void> ReserveHugePages(std::uint32_t megabytes, const std::string& sysfs = "/sys");

}  // namespace filer::agent
