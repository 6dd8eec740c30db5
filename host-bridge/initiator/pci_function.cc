#include "host-bridge/initiator/pci_function.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/endian.h"
#include "base/file.h"
#include "host-bridge/initiator/pci_bind.h"

namespace filer::bridge {
namespace {

class SysfsFunction final : public PciFunction {
 public:
  explicit SysfsFunction(std::string folder) : folder_(std::move(folder)) {}

  ~SysfsFunction() override {
    if (is_enabled_) (void)SetBusMaster(false).has_value();
    for (const auto& bar : bars_) {
      if (!bar.empty()) ::munmap(bar.data(), bar.size());
    }
  }

  Result<void> Open() {
    config_ = UniqueFd(::open((folder_ + "/config").c_str(), O_RDWR | O_CLOEXEC));
    if (!config_.is_open()) {
      if (errno == EACCES || errno == EPERM) {
        return Error(Errc::kAccessDenied,
                     fmt::format("{} may not be opened: run as root", folder_));
      }
      return Error::System(errno, fmt::format("open {}/config", folder_));
    }
    if (::flock(config_.get(), LOCK_EX | LOCK_NB) != 0) {
      return Error(Errc::kBusy, fmt::format("{} is in use by another process", folder_));
    }
    // The kernel may have switched the function off when its driver left.
    UniqueFd enable(::open((folder_ + "/enable").c_str(), O_WRONLY | O_CLOEXEC));
    if (!enable.is_open() || ::write(enable.get(), "1", 1) != 1) {
      return Error::System(errno, fmt::format("enable {}", folder_));
    }
    is_enabled_ = true;
    return Ok();
  }

  bool IsVfio() const override { return false; }

  Result<void> ReadConfig(std::uint64_t offset, std::span<std::byte> bytes) override {
    const ssize_t got =
        ::pread(config_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got != static_cast<ssize_t>(bytes.size())) {
      return Error(
          Errc::kAccessDenied,
          fmt::format("{}: the configuration space cannot be read whole: run as root", folder_));
    }
    return Ok();
  }

  Result<void> WriteConfig(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const ssize_t put =
        ::pwrite(config_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put != static_cast<ssize_t>(bytes.size())) {
      return Error::System(errno, fmt::format("write {}/config", folder_));
    }
    return Ok();
  }

  std::array<std::uint64_t, kPciBarCount> BarSizes() const override {
    constexpr std::uint64_t kIsMemory = 0x200;  // IORESOURCE_MEM
    std::array<std::uint64_t, kPciBarCount> sizes{};
    auto text = ReadWholeFile(folder_ + "/resource");
    if (text.has_error()) return sizes;
    const char* at = text.value().c_str();
    for (std::uint64_t& size : sizes) {
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      std::uint64_t flags = 0;
      int used = 0;
      if (std::sscanf(at, "%lx %lx %lx%n", &first, &last, &flags, &used) != 3) break;
      at += used;
      if ((flags & kIsMemory) != 0 && last > first) size = last - first + 1;
    }
    return sizes;
  }

  Result<std::span<std::byte>> MapBar(std::uint32_t bar) override {
    const std::uint64_t size = bar < kPciBarCount ? BarSizes()[bar] : 0;
    if (size == 0) return Errc::kOutOfRange;
    if (!bars_[bar].empty()) return bars_[bar];
    const std::string path = fmt::format("{}/resource{}", folder_, bar);
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_SYNC | O_CLOEXEC));
    if (!fd.is_open()) return Error::System(errno, fmt::format("open {}", path));
    void* start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (start == MAP_FAILED) return Error::System(errno, fmt::format("map {}", path));
    bars_[bar] = {static_cast<std::byte*>(start), size};
    return bars_[bar];
  }

  Result<void> MapDma(std::span<std::byte>, std::uint64_t) override { return Errc::kNotSupported; }

 private:
  const std::string folder_;
  UniqueFd config_;
  bool is_enabled_ = false;
  std::array<std::span<std::byte>, kPciBarCount> bars_;
};

// The last part of a symbolic link's target, empty if there is none.
std::string LinkName(const std::string& path) {
  char target[4096];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  if (length <= 0) return "";
  const std::string text(target, static_cast<std::size_t>(length));
  return text.substr(text.rfind('/') + 1);
}

// Without VFIO the device uses physical addresses, which a translating IOMMU would refuse.
Result<void> CheckNoTranslation(const std::string& folder, const std::string& address) {
  auto type = ReadWholeFile(folder + "/iommu_group/type");
  if (type.has_value() && type.value().starts_with("DMA")) {
    return Error(Errc::kNotSupported,
                 fmt::format("{} is behind an IOMMU: bind it to vfio-pci first", address));
  }
  return Ok();
}

}  // namespace

Result<void> PciFunction::SetBusMaster(bool is_on) {
  le16 command;
  const std::span bytes = std::as_writable_bytes(std::span(&command, 1));
  FILER_TRY(ReadConfig(kPciCommandOffset, bytes));
  std::uint16_t value = command;
  value |= kPciCommandNoInterrupt;
  if (is_on) {
    value |= kPciCommandMemory | kPciCommandBusMaster;
  } else {
    value = static_cast<std::uint16_t>(value & ~kPciCommandBusMaster);
  }
  command = value;
  return WriteConfig(kPciCommandOffset, bytes);
}

Result<std::unique_ptr<PciFunction>> OpenPciFunction(const std::string& address,
                                                     const std::string& sysfs_root) {
  const std::string driver = FILER_TRY(KernelDriverOf(address, sysfs_root));
  const std::string folder = fmt::format("{}/bus/pci/devices/{}", sysfs_root, address);
  if (driver == "vfio-pci") return OpenVfioFunction(address, LinkName(folder + "/iommu_group"));
  if (!driver.empty() && driver != "uio_pci_generic") {
    return Error(Errc::kBusy, fmt::format("{} is held by the kernel's {}: echo {} > "
                                          "/sys/bus/pci/devices/{}/driver/unbind",
                                          address, driver, address, address));
  }
  FILER_TRY(CheckNoTranslation(folder, address));
  auto function = std::make_unique<SysfsFunction>(folder);
  FILER_TRY(function->Open());
  return std::unique_ptr<PciFunction>(std::move(function));
}

}  // namespace filer::bridge
