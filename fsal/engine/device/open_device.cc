#include "fsal/engine/device/open_device.h"

#include <fmt/format.h>

#include "fsal/engine/device/bridge_device.h"
#include "fsal/engine/device/file_device.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kMemoryBytesMin = 64ULL << 20;
// Kept back from memory_bytes for rings and EAL's own use.
constexpr std::uint64_t kReserveBytes = 24ULL << 20;

Result<OpenedDevice> OpenFile(const std::string& path, const OpenDeviceOptions& options) {
  OpenedDevice opened;
  opened.device = FILER_TRY(OpenFileDevice(
      {.path = path, .is_read_only = options.is_read_only, .pool_bytes = options.memory_bytes}));
  opened.transport = "file";
  opened.counters = [] { return bridge::DiskCounters{}; };
  opened.is_connected = [] { return true; };
  return opened;
}

Result<void> StartEalOnce(const OpenDeviceOptions& options) {
  auto started = bridge::InitEal(
      {.memory_bytes = options.memory_bytes, .use_huge_pages = options.use_huge_pages});
  if (started.has_error() && !(started.error() == Errc::kExists)) {
    return std::move(started).assume_error();
  }
  return Ok();
}

Result<OpenedDevice> OpenBridge(const std::string& kind, const std::string& where,
                                const OpenDeviceOptions& options) {
  if (options.memory_bytes < kMemoryBytesMin) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("a volume needs at least {} MiB of memory", kMemoryBytesMin >> 20));
  }
  FILER_TRY(StartEalOnce(options));
  const bridge::DiskOptions disk_options = {.queue_count = options.queue_count,
                                            .queue_size = options.queue_size,
                                            .arena_bytes = options.memory_bytes - kReserveBytes};
  auto disk = FILER_TRY(kind == "pci" ? bridge::AttachPci(where, disk_options)
                                      : bridge::AttachVhostUser(where, disk_options));
  OpenedDevice opened;
  opened.transport = disk->Info().transport;
  const bridge::Disk* observed = disk.get();
  opened.counters = [observed] { return observed->Counters(); };
  opened.is_connected = [observed] { return observed->IsConnected(); };
  opened.device = FILER_TRY(MakeBridgeDevice(std::move(disk)));
  return opened;
}

}  // namespace

Result<OpenedDevice> OpenVolumeDevice(const std::string& spec, const OpenDeviceOptions& options) {
  const std::size_t colon = spec.find(':');
  const std::string kind = spec.substr(0, colon);
  const std::string where = colon == std::string::npos ? "" : spec.substr(colon + 1);
  if (!where.empty() && kind == "file") return OpenFile(where, options);
  if (!where.empty() && (kind == "vhost_user" || kind == "pci")) {
    return OpenBridge(kind, where, options);
  }
  return Error(
      Errc::kUsage,
      fmt::format("'{}' is no device: use vhost_user:PATH, pci:ADDRESS or file:PATH", spec));
}

}  // namespace filer::engine
