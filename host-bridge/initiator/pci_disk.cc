// pci_disk.cc: a Disk on a virtio-blk PCI function (VIRTIO 1.2, 4.1): attached through sysfs or
// VFIO, completions by polling, no interrupt.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "host-bridge/initiator/pci_bind.h"
#include "host-bridge/initiator/pci_function.h"
#include "host-bridge/initiator/virtio_disk.h"

namespace filer::bridge {
namespace {

// Where a VFIO disk's memory lies for the device: above 4 GiB, clear of the interrupt window at
// 0xfee00000.
constexpr std::uint64_t kIovaBase = 1ULL << 32;
constexpr std::uint16_t kNoVector = 0xffff;
constexpr int kResetTriesMax = 1000;  // of 1 ms
constexpr int kGenerationTriesMax = 100;

void SleepMs() {
  const timespec pause = {0, 1'000'000};
  ::nanosleep(&pause, nullptr);
}

// Registers of the common configuration, each access of the field's own width.
class Registers {
 public:
  Registers() = default;
  explicit Registers(std::byte* base) : base_(base) {}
  std::uint8_t Read8(std::size_t offset) const { return *At<std::uint8_t>(offset); }
  std::uint16_t Read16(std::size_t offset) const { return *At<std::uint16_t>(offset); }
  std::uint32_t Read32(std::size_t offset) const { return *At<std::uint32_t>(offset); }
  void Write8(std::size_t offset, std::uint8_t value) { *At<std::uint8_t>(offset) = value; }
  void Write16(std::size_t offset, std::uint16_t value) { *At<std::uint16_t>(offset) = value; }
  void Write32(std::size_t offset, std::uint32_t value) { *At<std::uint32_t>(offset) = value; }
  void Write64(std::size_t offset, std::uint64_t value) {
    Write32(offset, static_cast<std::uint32_t>(value));
    Write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }

 private:
  template <typename T>
  volatile T* At(std::size_t offset) const {
    return reinterpret_cast<volatile T*>(base_ + offset);
  }
  std::byte* base_ = nullptr;
};

#define FILER_REGISTER(field) offsetof(CommonConfig, field)

class PciDisk final : public VirtioDisk {
 public:
  explicit PciDisk(std::string address) : address_(std::move(address)) {}

  ~PciDisk() override {
    if (function_ == nullptr) return;
    const bool is_quiet = is_mapped_ ? Reset().has_value() : true;
    function_.reset();  // bus mastering off
    if (!is_quiet) {
      FILER_LOG_ERROR("{} does not reset: its memory stays reserved", address_);
      (void)memory_.release();
    }
  }

  Result<void> Attach(const DiskOptions& options) {
    function_ = FILER_TRY(OpenPciFunction(address_));
    FILER_TRY(MapRegisters());
    FILER_TRY(Reset());
    AddStatus(virtio::kDeviceAcknowledge);
    AddStatus(virtio::kDeviceDriver);
    const std::uint64_t features = FILER_TRY(Negotiate(options.ring));
    const virtio::BlockConfig config = FILER_TRY(ReadDeviceConfig());
    DiskOptions fitting = options;
    const bool is_translated = (features & virtio::kFeatureAccessPlatform) != 0;
    const std::uint32_t queue_count = FILER_TRY(FitQueues(is_translated, fitting));
    info_.transport = function_->IsVfio() ? "pci/vfio" : "pci/uio";
    FILER_TRY(Allocate(features, config, fitting, queue_count));
    FILER_TRY(MakeAddresses(is_translated));
    MakeQueues(features, config);
    for (std::uint32_t i = 0; i < info_.queue_count; ++i) FILER_TRY(StartQueue(i));
    FILER_TRY(function_->SetBusMaster(true));
    AddStatus(virtio::kDeviceDriverOk);
    return Ok();
  }

  // No interrupt tells of a new capacity, so whoever asks reads the device.
  DiskInfo Info() const override {
    if (!is_broken_.load(std::memory_order_acquire)) {
      const auto config = ReadDeviceConfig();
      if (config.has_value()) NoteCapacity(config.value().capacity_sectors);
    }
    return VirtioDisk::Info();
  }

  bool IsConnected() const override {
    if (is_broken_.load(std::memory_order_acquire)) return false;
    const std::uint8_t status = registers_.Read8(FILER_REGISTER(device_status));
    // All ones: the function is gone from the bus.
    return status != 0xff && (status & virtio::kDeviceNeedsReset) == 0;
  }

 private:
  void RingDoorbell(std::uint32_t queue_index) override {
    *doorbells_[queue_index] = static_cast<std::uint16_t>(queue_index);
  }

  void ProtocolBroken(std::uint32_t queue_index, const Error& error) override {
    FILER_LOG_ERROR("{}: the bridge broke the protocol on queue {}: {}", address_, queue_index,
                    error.message());
    is_broken_.store(true, std::memory_order_release);  // pairs with IsConnected
  }

  Result<void> MapRegisters() {
    std::array<std::byte, kPciConfigBytes> config;
    FILER_TRY(function_->ReadConfig(0, config));
    layout_ = FILER_TRY(ReadPciLayout(config, function_->BarSizes()));
    // Memory decoding on. DMA comes on last, when the device was reset.
    FILER_TRY(function_->SetBusMaster(true));
    const auto map = [this](const PciWindow& window) -> Result<std::byte*> {
      return FILER_TRY(function_->MapBar(window.bar)).data() + window.offset_bytes;
    };
    registers_ = Registers(FILER_TRY(map(layout_.common)));
    device_config_ = Registers(FILER_TRY(map(layout_.device)));
    notify_base_ = FILER_TRY(map(layout_.notify));
    is_mapped_ = true;
    return Ok();
  }

  Result<void> Reset() {
    registers_.Write8(FILER_REGISTER(device_status), 0);
    for (int tries = 0; registers_.Read8(FILER_REGISTER(device_status)) != 0; ++tries) {
      if (tries == kResetTriesMax) {
        return Error(Errc::kTimedOut, fmt::format("{} does not reset", address_));
      }
      SleepMs();
    }
    return Ok();
  }

  void AddStatus(std::uint8_t bit) {
    const std::uint8_t before = registers_.Read8(FILER_REGISTER(device_status));
    registers_.Write8(FILER_REGISTER(device_status), before | bit);
  }

  Result<std::uint64_t> Negotiate(RingFormat ring) {
    std::uint64_t offered = 0;
    for (std::uint32_t half = 0; half < 2; ++half) {
      registers_.Write32(FILER_REGISTER(device_feature_select), half);
      offered |= std::uint64_t{registers_.Read32(FILER_REGISTER(device_feature))} << (32 * half);
    }
    const std::uint64_t chosen = FILER_TRY(ChooseFeatures(offered, ring));
    for (std::uint32_t half = 0; half < 2; ++half) {
      registers_.Write32(FILER_REGISTER(driver_feature_select), half);
      registers_.Write32(FILER_REGISTER(driver_feature),
                         static_cast<std::uint32_t>(chosen >> (32 * half)));
    }
    AddStatus(virtio::kDeviceFeaturesOk);
    if ((registers_.Read8(FILER_REGISTER(device_status)) & virtio::kDeviceFeaturesOk) == 0) {
      return Error(Errc::kNotSupported, fmt::format("{} refuses our choice of features", address_));
    }
    return chosen;
  }

  Result<virtio::BlockConfig> ReadDeviceConfig() const {
    for (int tries = 0; tries < kGenerationTriesMax; ++tries) {
      const std::uint8_t before = registers_.Read8(FILER_REGISTER(config_generation));
      virtio::BlockConfig config = {};
      for (std::size_t at = 0; at < kConfigBytes; at += 4) {
        const std::uint32_t word = device_config_.Read32(at);
        std::memcpy(reinterpret_cast<std::byte*>(&config) + at, &word, sizeof word);
      }
      if (registers_.Read8(FILER_REGISTER(config_generation)) == before) return config;
    }
    return Error(Errc::kProtocol, fmt::format("{}: the configuration never settles", address_));
  }

  // Cuts options.queue_size to what the device's queues have; returns how many queues it has.
  // Behind a vIOMMU QEMU starts none unless all are set up (it translates the used ring of each),
  // so all are taken then.
  Result<std::uint32_t> FitQueues(bool is_translated, DiskOptions& options) {
    const std::uint32_t count = registers_.Read16(FILER_REGISTER(queue_count));
    if (count == 0) return Error(Errc::kProtocol, fmt::format("{} has no queue", address_));
    if (is_translated) options.queue_count = count;
    for (std::uint32_t i = 0; i < std::min(count, options.queue_count); ++i) {
      registers_.Write16(FILER_REGISTER(queue_select), static_cast<std::uint16_t>(i));
      const std::uint32_t size = registers_.Read16(FILER_REGISTER(queue_size));
      if (size < 4 || registers_.Read16(FILER_REGISTER(queue_enable)) != 0) {
        return Error(Errc::kProtocol,
                     fmt::format("{}: queue {} has {} entries", address_, i, size));
      }
      options.queue_size = std::min(options.queue_size, std::bit_floor(size));
    }
    return count;
  }

  Result<void> MakeAddresses(bool is_translated) {
    if (function_->IsVfio() && is_translated) {
      const std::uint64_t iova = kIovaBase;
      FILER_TRY(function_->MapDma(memory_->all(), iova));
      map_ = std::make_unique<AddressMap>(AddressMap::Linear(memory_->all(), iova));
      return Ok();
    }
    // The device goes round the IOMMU, or there is none.
    map_ = std::make_unique<AddressMap>(FILER_TRY(memory_->PhysicalMap()));
    return Ok();
  }

  Result<void> StartQueue(std::uint32_t index) {
    const RingAddresses addresses = queues_[index]->Addresses();
    registers_.Write16(FILER_REGISTER(queue_select), static_cast<std::uint16_t>(index));
    registers_.Write16(FILER_REGISTER(queue_size), static_cast<std::uint16_t>(info_.queue_size));
    registers_.Write16(FILER_REGISTER(queue_msix_vector), kNoVector);
    registers_.Write64(FILER_REGISTER(queue_descriptors), addresses.descriptors);
    registers_.Write64(FILER_REGISTER(queue_avail), addresses.avail);
    registers_.Write64(FILER_REGISTER(queue_used), addresses.used);
    const std::uint64_t offset =
        std::uint64_t{registers_.Read16(FILER_REGISTER(queue_notify_offset))} *
        layout_.notify_multiplier;
    if (offset + sizeof(std::uint16_t) > layout_.notify.length_bytes || offset % 2 != 0) {
      return Error(Errc::kProtocol, fmt::format("{}: doorbell {} is outside", address_, index));
    }
    doorbells_.push_back(reinterpret_cast<volatile std::uint16_t*>(notify_base_ + offset));
    registers_.Write16(FILER_REGISTER(queue_enable), 1);
    return Ok();
  }

  const std::string address_;
  std::unique_ptr<PciFunction> function_;
  PciLayout layout_;
  Registers registers_;
  Registers device_config_;
  std::byte* notify_base_ = nullptr;
  bool is_mapped_ = false;
  std::vector<volatile std::uint16_t*> doorbells_;
  std::atomic<bool> is_broken_{false};
};

#undef FILER_REGISTER

Result<std::unique_ptr<Disk>> AttachAddress(const std::string& address,
                                            const DiskOptions& options) {
  auto disk = std::make_unique<PciDisk>(address);
  FILER_TRY(disk->Attach(options));
  return std::unique_ptr<Disk>(std::move(disk));
}

Result<std::string> SerialOf(const std::string& address) {
  DiskOptions options;
  options.queue_size = 16;
  options.arena_bytes = 1 << 20;
  const auto disk = FILER_TRY(AttachAddress(address, options));
  const std::span<std::byte> answer = disk->Arena().first(virtio::kIdBytes);
  std::fill(answer.begin(), answer.end(), std::byte{0});
  const std::array<iovec, 1> segments = {iovec{answer.data(), answer.size()}};
  FILER_TRY(disk->Queue(0).Prepare({.operation = DiskOperation::kGetId,
                                    .offset_bytes = 0,
                                    .length_bytes = 0,
                                    .segments = segments,
                                    .cookie = 0}));
  disk->Queue(0).Publish();
  DiskCompletion completion;
  for (int tries = 0; disk->Queue(0).Poll({&completion, 1}) == 0; ++tries) {
    if (tries == kResetTriesMax) {
      return Error(Errc::kTimedOut, fmt::format("{} does not tell its serial", address));
    }
    SleepMs();
  }
  if (!completion.is_ok) return completion.status;
  const auto* text = reinterpret_cast<const char*>(answer.data());
  return std::string(text, ::strnlen(text, answer.size()));
}

bool IsVirtioBlock(const std::filesystem::path& folder) {
  auto vendor = ReadWholeFile(folder / "vendor");
  auto device = ReadWholeFile(folder / "device");
  return vendor.has_value() && device.has_value() && vendor.value().starts_with("0x1af4") &&
         (device.value().starts_with("0x1042") || device.value().starts_with("0x1001"));
}

Result<std::string> FindSerial(const std::string& serial) {
  std::vector<std::string> candidates;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/bus/pci/devices", error)) {
    if (IsVirtioBlock(entry.path())) candidates.push_back(entry.path().filename().string());
  }
  std::sort(candidates.begin(), candidates.end());
  std::string held;
  for (const std::string& address : candidates) {
    auto found = SerialOf(address);
    if (found.has_value() && found.value() == serial) return address;
    if (found.has_error() && found.error() == Errc::kBusy) held += " " + address;
  }
  const std::string hint = held.empty() ? "" : fmt::format(" (not asked, in use:{})", held);
  return Error(Errc::kNotFound, fmt::format("no disk has the serial '{}'{}", serial, hint));
}

}  // namespace

Result<std::unique_ptr<Disk>> AttachPci(const std::string& address, const DiskOptions& options) {
  constexpr std::string_view kSerial = "serial=";
  if (!address.starts_with(kSerial)) return AttachAddress(address, options);
  return AttachAddress(FILER_TRY(FindSerial(address.substr(kSerial.size()))), options);
}

}  // namespace filer::bridge
