#include "configs/command/volumes.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/file.h"
#include "base/units.h"
#include "configs/command/applied.h"
#include "configs/command/console.h"
#include "configs/syntax.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/format/label.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kToolPoolBytes = 64ULL << 20;

// The label of block 0, or its copy in the last block.
Result<engine::Label> ReadLabel(engine::BlockDevice& device) {
  const std::uint64_t blocks = device.Info().size_bytes / kBlockBytes;
  std::array<std::byte, kBlockBytes> bytes;
  FILER_TRY(engine::ReadBlocking(device, 0, bytes));
  auto first = engine::DecodeLabel(bytes, 0, blocks);
  if (first || first.error() == Errc::kNewerVersion) return first;
  FILER_TRY(engine::ReadBlocking(device, (blocks - 1) * kBlockBytes, bytes));
  auto copy = engine::DecodeLabel(bytes, blocks - 1, blocks);
  return copy ? std::move(copy) : std::move(first);
}

std::string Advice(Errc code) {
  switch (code) {
    case Errc::kNotOurs:
      return "it holds something else; nothing was touched. Choose another path, or move the file "
             "away";
    case Errc::kNewerVersion:
      return "nothing was touched";
    case Errc::kCorrupt:
      return "both labels are damaged; nothing was touched. `filer volume check` says more";
    case Errc::kTooSmall:
      return "the file was cut, or never was a volume; nothing was touched";
    default:
      return "";
  }
}

Error Explained(const configs::VolumeConfig& volume, const Error& error) {
  std::string text = error.message();
  if (text.find(volume.path) == std::string::npos) text = volume.path + ": " + text;
  const std::string advice = Advice(error.code());
  return Error(error.code(), fmt::format("volume {}: {}{}{}", volume.name, text,
                                         advice.empty() ? "" : "; ", advice));
}

std::string UuidText(const std::uint8_t (&uuid)[16]) {
  std::string text;
  for (int index = 0; index < 16; ++index) {
    if (index == 4 || index == 6 || index == 8 || index == 10) text += '-';
    text += fmt::format("{:02x}", uuid[index]);
  }
  return text;
}

}  // namespace

Json ToJson(const VolumeInfo& info) {
  return {{"name", info.name},
          {"path", info.path},
          {"state", info.state},
          {"size_bytes", info.size_bytes},
          {"allocated_bytes", info.allocated_bytes},
          {"uuid", info.uuid},
          {"label", info.label}};
}

Result<configs::VolumeConfig> FindVolume(const Home& home, const VolumeOptions& options) {
  const Applied applied = FILER_TRY(LoadApplied(home, options.config_path));
  configs::VolumeConfig volume;
  bool is_configured = false;
  for (const configs::VolumeConfig& candidate : applied.config.volumes) {
    if (candidate.name != options.name) continue;
    volume = candidate;
    is_configured = true;
  }
  if (!is_configured) {
    volume.name = options.name;
    volume.path = home.Volumes() + "/" + options.name + ".img";
  }
  if (!options.path.empty()) volume.path = std::filesystem::absolute(options.path);
  if (!options.size.empty()) {
    const auto size = configs::ParseSize(options.size);
    if (!size)
      return Error(Errc::kUsage,
                   "--size " + options.size + ": not a size; write it as 512M, 8G or 2T");
    volume.size_bytes = size.value();
  }
  if (volume.backend != configs::VolumeBackend::kFile) {
    return Error(Errc::kUsage, "volume " + volume.name + ": a memory volume has no file");
  }
  return volume;
}

Result<VolumeInfo> MeasureVolume(const configs::VolumeConfig& volume) {
  VolumeInfo info{.name = volume.name, .path = volume.path};
  struct stat status {};
  if (::stat(volume.path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return Error(Errc::kNotFound,
                   fmt::format("volume {}: {}: no such file; make it with `filer volume create {}`",
                               volume.name, volume.path, volume.name));
    }
    return Error::System(errno, fmt::format("volume {}: {}", volume.name, volume.path));
  }
  info.size_bytes = static_cast<std::uint64_t>(status.st_size);
  info.allocated_bytes = static_cast<std::uint64_t>(status.st_blocks) * kSectorBytes;
  return info;
}

Result<VolumeInfo> InspectVolume(const configs::VolumeConfig& volume) {
  VolumeInfo info = FILER_TRY(MeasureVolume(volume));
  auto device = engine::OpenFileDevice({.path = volume.path,
                                        .is_read_only = true,
                                        .pool_bytes = kToolPoolBytes,
                                        .size_bytes_min = configs::kVolumeBytesMin});
  if (!device) return Explained(volume, device.error());
  auto label = ReadLabel(*device.value());
  if (!label) return Explained(volume, label.error());
  info.uuid = UuidText(label.value().volume_uuid);
  info.label = engine::VolumeNameOf(label.value());
  info.state = "ok";
  return info;
}

}  // namespace filer::command
