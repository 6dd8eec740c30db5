#include "host-bridge/initiator/pci_bind.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <climits>

#include "base/file.h"

namespace filer::bridge {
namespace {

// "0000:00:10.0": nothing else may become part of a path.
bool IsAddress(const std::string& text) {
  constexpr std::string_view kShape = "hhhh:hh:hh.h";
  if (text.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool is_right = kShape[i] == 'h' ? std::isxdigit(static_cast<unsigned char>(text[i])) != 0
                                           : text[i] == kShape[i];
    if (!is_right) return false;
  }
  return true;
}

Result<std::string> FolderOf(const std::string& address, const std::string& sysfs_root) {
  if (!IsAddress(address)) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("'{}' is no PCI address of the form 0000:00:10.0", address));
  }
  std::string folder = fmt::format("{}/bus/pci/devices/{}", sysfs_root, address);
  struct stat attributes = {};
  if (::stat(folder.c_str(), &attributes) != 0) {
    return Error(Errc::kNotFound, fmt::format("there is no PCI function {}", address));
  }
  return folder;
}

Result<void> WriteText(const std::string& path, std::string_view text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.is_open() &&
      ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
    return Ok();
  }
  const int error = errno;
  if (error == EACCES || error == EPERM || error == EROFS) {
    return Error(Errc::kAccessDenied, fmt::format("{} may not be written: run as root", path));
  }
  return Error::System(error, fmt::format("write '{}' to {}", text, path));
}

std::string LinkName(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  if (length <= 0) return "";
  const std::string text(target, static_cast<std::size_t>(length));
  return text.substr(text.rfind('/') + 1);
}

Result<void> Unbind(const std::string& address, const std::string& driver,
                    const std::string& sysfs_root) {
  return WriteText(fmt::format("{}/bus/pci/drivers/{}/unbind", sysfs_root, driver), address);
}

}  // namespace

Result<std::string> KernelDriverOf(const std::string& address, const std::string& sysfs_root) {
  return LinkName(FILER_TRY(FolderOf(address, sysfs_root)) + "/driver");
}

Result<void> UnbindKernelDriver(const std::string& address, const std::string& sysfs_root) {
  const std::string folder = FILER_TRY(FolderOf(address, sysfs_root));
  const std::string driver = FILER_TRY(KernelDriverOf(address, sysfs_root));
  if (driver == "vfio-pci" || driver == "uio_pci_generic") return Ok();
  // A name that no driver has: a later probe leaves the function alone.
  FILER_TRY(WriteText(folder + "/driver_override", "nearmetal"));
  if (driver.empty()) return Ok();
  return Unbind(address, driver, sysfs_root);
}

Result<void> BindToVfio(const std::string& address, const std::string& sysfs_root) {
  const std::string folder = FILER_TRY(FolderOf(address, sysfs_root));
  const std::string driver = FILER_TRY(KernelDriverOf(address, sysfs_root));
  if (driver == "vfio-pci") return Ok();
  if (LinkName(folder + "/iommu_group").empty()) {
    return Error(Errc::kNotSupported,
                 fmt::format("{} has no IOMMU group: vfio-pci cannot take it", address));
  }
  FILER_TRY(WriteText(folder + "/driver_override", "vfio-pci"));
  if (!driver.empty()) FILER_TRY(Unbind(address, driver, sysfs_root));
  FILER_TRY(WriteText(sysfs_root + "/bus/pci/drivers_probe", address));
  if (FILER_TRY(KernelDriverOf(address, sysfs_root)) != "vfio-pci") {
    return Error(Errc::kNotSupported,
                 fmt::format("vfio-pci did not take {}: load the module vfio-pci", address));
  }
  return Ok();
}

}  // namespace filer::bridge
