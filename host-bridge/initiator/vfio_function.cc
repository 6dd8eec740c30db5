// vfio_function.cc: a PCI function through VFIO's container and group (type 1 IOMMU).
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "host-bridge/initiator/pci_function.h"

namespace filer::bridge {
namespace {

class VfioFunction final : public PciFunction {
 public:
  VfioFunction(std::string address, std::string group)
      : address_(std::move(address)), group_name_(std::move(group)) {}

  ~VfioFunction() override {
    if (device_.is_open()) (void)SetBusMaster(false).has_value();
    for (const auto& bar : bars_) {
      if (!bar.empty()) ::munmap(bar.data(), bar.size());
    }
  }

  Result<void> Open() {
    container_ = FILER_TRY(OpenNode("/dev/vfio/vfio"));
    if (::ioctl(container_.get(), VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
        ::ioctl(container_.get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1) {
      return Error(Errc::kNotSupported, "this kernel's VFIO has no type 1 IOMMU");
    }
    group_ = FILER_TRY(OpenNode("/dev/vfio/" + group_name_));
    vfio_group_status status = {};
    status.argsz = sizeof status;
    if (::ioctl(group_.get(), VFIO_GROUP_GET_STATUS, &status) != 0) return Failed("group status");
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
      return Error(Errc::kBusy,
                   fmt::format("other functions of {}'s IOMMU group {} are held by kernel "
                               "drivers: bind them to vfio-pci, too",
                               address_, group_name_));
    }
    int container = container_.get();
    if (::ioctl(group_.get(), VFIO_GROUP_SET_CONTAINER, &container) != 0) return Failed("group");
    if (::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return Failed("IOMMU");
    device_ = UniqueFd(::ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, address_.c_str()));
    if (!device_.is_open()) return Failed("device");
    config_ = FILER_TRY(Region(VFIO_PCI_CONFIG_REGION_INDEX));
    return Ok();
  }

  bool IsVfio() const override { return true; }

  Result<void> ReadConfig(std::uint64_t offset, std::span<std::byte> bytes) override {
    const auto at = static_cast<off_t>(config_.offset + offset);
    if (::pread(device_.get(), bytes.data(), bytes.size(), at) !=
        static_cast<ssize_t>(bytes.size())) {
      return Failed("read of the configuration space");
    }
    return Ok();
  }

  Result<void> WriteConfig(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const auto at = static_cast<off_t>(config_.offset + offset);
    if (::pwrite(device_.get(), bytes.data(), bytes.size(), at) !=
        static_cast<ssize_t>(bytes.size())) {
      return Failed("write to the configuration space");
    }
    return Ok();
  }

  std::array<std::uint64_t, kPciBarCount> BarSizes() const override {
    std::array<std::uint64_t, kPciBarCount> sizes{};
    for (std::uint32_t bar = 0; bar < kPciBarCount; ++bar) {
      auto region = Region(VFIO_PCI_BAR0_REGION_INDEX + bar);
      if (region.has_value() && (region.value().flags & VFIO_REGION_INFO_FLAG_MMAP) != 0) {
        sizes[bar] = region.value().size;
      }
    }
    return sizes;
  }

  Result<std::span<std::byte>> MapBar(std::uint32_t bar) override {
    if (bar >= kPciBarCount) return Errc::kOutOfRange;
    if (!bars_[bar].empty()) return bars_[bar];
    const auto region = FILER_TRY(Region(VFIO_PCI_BAR0_REGION_INDEX + bar));
    if (region.size == 0) return Errc::kOutOfRange;
    void* start = ::mmap(nullptr, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device_.get(),
                         static_cast<off_t>(region.offset));
    if (start == MAP_FAILED) return Failed("mapping of a BAR");
    bars_[bar] = {static_cast<std::byte*>(start), region.size};
    return bars_[bar];
  }

  Result<void> MapDma(std::span<std::byte> memory, std::uint64_t iova) override {
    vfio_iommu_type1_dma_map map = {};
    map.argsz = sizeof map;
    map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    map.vaddr = reinterpret_cast<std::uintptr_t>(memory.data());
    map.iova = iova;
    map.size = memory.size();
    if (::ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &map) != 0) {
      return Failed("mapping of memory for DMA (memlock limit?)");
    }
    return Ok();
  }

 private:
  Error Failed(const char* what) const {
    return Error::System(errno, fmt::format("VFIO {} of {}", what, address_));
  }

  Result<UniqueFd> OpenNode(const std::string& path) const {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd.is_open()) return fd;
    if (errno == EBUSY) {
      return Error(Errc::kBusy, fmt::format("{} is in use by another process", address_));
    }
    return Error::System(errno, fmt::format("open {} for {}", path, address_));
  }

  Result<vfio_region_info> Region(std::uint32_t index) const {
    vfio_region_info info = {};
    info.argsz = sizeof info;
    info.index = index;
    if (::ioctl(device_.get(), VFIO_DEVICE_GET_REGION_INFO, &info) != 0) return Failed("region");
    return info;
  }

  const std::string address_;
  const std::string group_name_;
  UniqueFd container_;
  UniqueFd group_;
  UniqueFd device_;
  vfio_region_info config_ = {};
  std::array<std::span<std::byte>, kPciBarCount> bars_;
};

}  // namespace

Result<std::unique_ptr<PciFunction>> OpenVfioFunction(const std::string& address,
                                                      const std::string& group) {
  auto function = std::make_unique<VfioFunction>(address, group);
  FILER_TRY(function->Open());
  return std::unique_ptr<PciFunction>(std::move(function));
}

}  // namespace filer::bridge
