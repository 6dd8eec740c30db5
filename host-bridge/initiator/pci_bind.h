// pci_bind.h: who drives a PCI function: to be asked and changed by whoever sets the machine up
// (the guest's agent, tests). Blocking; any thread. `sysfs_root` is "/sys" except in tests.
#pragma once

#include <string>

#include "base/result.h"

namespace filer::bridge {

// Takes the function from its kernel driver and keeps the kernel from binding it again. Ok if it
// has none, or is bound to vfio-pci. Errors: kNotFound, kInvalidArgument (not an address),
// kAccessDenied, kSystem.
Result<void> UnbindKernelDriver(const std::string& address, const std::string& sysfs_root = "/sys");

// Binds the function to vfio-pci (the module must be loaded). Errors: as above; kNotSupported
// without an IOMMU group.
Result<void> BindToVfio(const std::string& address, const std::string& sysfs_root = "/sys");

// Name of the kernel driver that holds it, empty if none. Errors: kNotFound, kInvalidArgument.
Result<std::string> KernelDriverOf(const std::string& address,
                                   const std::string& sysfs_root = "/sys");

}  // namespace filer::bridge
