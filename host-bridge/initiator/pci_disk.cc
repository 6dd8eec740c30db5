#include "host-bridge/initiator/initiator.h"
namespace filer::bridge {
Result<std::unique_ptr<Disk>> AttachPci(const std::string& address, const DiskOptions& options) {
  (void)address;
  (void)options;
  return Error(Errc::kNotSupported, "the PCI transport is not there yet");
}
}  // namespace filer::bridge
