#include "configs/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.h"

namespace filer::configs {

ApplianceConfig DefaultConfig(const std::string& home) {
  ApplianceConfig config;
  VolumeConfig volume;
  volume.path = home + "/volumes/" + volume.name + ".img";
  config.volumes.push_back(std::move(volume));
  config.exports.emplace_back();
  return config;
}

Result<ApplianceConfig> LoadConfig(const std::string& path, const std::string& home) {
  auto text = ReadWholeFile(path, 1 << 20);
  if (!text.has_value()) {
    return Error(text.error().code(),
                 fmt::format("configuration {}: {}", path, text.error().message()));
  }
  ParsedConfig parsed = ParseConfig(text.value(), path, home);
  if (!parsed.is_valid()) {
    return Error(Errc::kConfigInvalid, fmt::format("{}", fmt::join(parsed.errors, "\n")));
  }
  return std::move(parsed.config);
}

std::string_view ToText(Accelerator value) noexcept {
  switch (value) {
    case Accelerator::kAuto:
      return "auto";
    case Accelerator::kKvm:
      return "kvm";
    case Accelerator::kTcg:
      return "tcg";
  }
  return "?";
}

std::string_view ToText(Squash value) noexcept {
  switch (value) {
    case Squash::kRoot:
      return "root";
    case Squash::kNone:
      return "none";
    case Squash::kAll:
      return "all";
  }
  return "?";
}

std::string_view ToText(VolumeBackend value) noexcept {
  switch (value) {
    case VolumeBackend::kFile:
      return "file";
    case VolumeBackend::kMemory:
      return "memory";
  }
  return "?";
}

}  // namespace filer::configs
