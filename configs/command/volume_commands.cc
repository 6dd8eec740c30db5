// `filer volume ...`: volume files of this machine. They work on the file itself, so the volume
// must not be served meanwhile; its lock says so.
#include <fmt/core.h>

#include <filesystem>

#include "base/json_rpc.h"
#include "configs/command/applied.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/volume_repair.h"
#include "configs/command/volumes.h"
#include "configs/syntax.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kCheckPoolBytes = 256ULL << 20;

// The configured volume of that name, with what the command line overrides. A volume that is not
// configured needs a --path.
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

Json ToJson(const VolumeInfo& info) {
  return {{"name", info.name},
          {"path", info.path},
          {"state", info.state},
          {"size_bytes", info.size_bytes},
          {"allocated_bytes", info.allocated_bytes},
          {"uuid", info.uuid},
          {"label", info.label}};
}

Json ToJson(const engine::CheckReport& report) {
  Json findings = Json::array();
  for (const engine::CheckFinding& finding : report.findings) {
    findings.push_back({{"what", finding.what}, {"where", finding.where}, {"path", finding.path}});
  }
  return {{"schema", "filer.check/1"},         {"findings", findings},
          {"inodes", report.inodes},           {"directories", report.directories},
          {"used_blocks", report.used_blocks}, {"bytes_verified", report.bytes_verified}};
}

void PrintCheck(const std::string& name, const engine::CheckReport& report) {
  for (const engine::CheckFinding& finding : report.findings) {
    fmt::print("{}: {}{}{}\n", finding.where, finding.what, finding.path.empty() ? "" : ", file ",
               finding.path);
  }
  fmt::print(
      "volume {}: {} inodes, {} directories, {} in use, {} of data verified: {}\n", name,
      report.inodes, report.directories, HumanBytes(report.used_blocks * 4096),
      HumanBytes(report.bytes_verified),
      report.findings.empty() ? "sound" : fmt::format("{} findings", report.findings.size()));
}

Result<engine::CheckReport> CheckVolume(const configs::VolumeConfig& volume, bool verify_data) {
  FILER_TRY(InspectVolume(volume));
  const auto device = FILER_TRY(engine::OpenFileDevice(
      {.path = volume.path, .is_read_only = true, .pool_bytes = kCheckPoolBytes}));
  return engine::Engine::Check(*device, verify_data);
}

}  // namespace

int VolumeCreate(const Home& home, const VolumeOptions& options) {
  auto volume = FindVolume(home, options);
  if (!volume) return Fail(volume.error());
  if (options.path.find(',') != std::string::npos) {
    return Fail(Error(Errc::kUsage, "--path " + options.path +
                                        ": it holds ',', which no path of a [[volume]] may; "
                                        "choose one without it"));
  }
  std::error_code error;
  std::filesystem::create_directories(home.Volumes(), error);
  if (auto created = CreateVolume(volume.value()); !created) return Fail(created.error());
  auto info = InspectVolume(volume.value());
  if (!info) return Fail(info.error());
  if (options.as_json) {
    fmt::print("{}\n", ToJson(info.value()).dump(2));
  } else {
    fmt::print("volume {}: {}, {}\n", info.value().name, HumanBytes(info.value().size_bytes),
               info.value().path);
  }
  return kExitOk;
}

int VolumeList(const Home& home, const VolumeOptions& options) {
  auto applied = LoadApplied(home, options.config_path);
  if (!applied) return Fail(applied.error());
  Json rows = Json::array();
  std::vector<std::vector<std::string>> table = {{"VOLUME", "STATE", "SIZE", "ALLOCATED", "PATH"}};
  for (const configs::VolumeConfig& volume : applied.value().config.volumes) {
    auto inspected = InspectVolume(volume);
    VolumeInfo info{.name = volume.name, .path = volume.path};
    if (inspected) {
      info = inspected.value();
    } else {
      if (const auto measured = MeasureVolume(volume)) info = measured.value();
      info.state = inspected.error() == Errc::kBusy
                       ? "in use"
                       : std::string(ErrcText(inspected.error().code()));
    }
    rows.push_back(ToJson(info));
    table.push_back({info.name, info.state, HumanBytes(info.size_bytes),
                     HumanBytes(info.allocated_bytes), info.path});
  }
  if (options.as_json) {
    fmt::print("{}\n", Json{{"schema", "filer.volumes/1"}, {"volumes", rows}}.dump(2));
  } else {
    fmt::print("{}", Table(table));
  }
  return kExitOk;
}

int VolumeShow(const Home& home, const VolumeOptions& options) {
  auto volume = FindVolume(home, options);
  if (!volume) return Fail(volume.error());
  auto info = InspectVolume(volume.value());
  if (!info) return Fail(info.error());
  if (options.as_json) {
    fmt::print("{}\n", ToJson(info.value()).dump(2));
    return kExitOk;
  }
  fmt::print("{}", Table({{"name", info.value().name},
                          {"label", info.value().label},
                          {"path", info.value().path},
                          {"uuid", info.value().uuid},
                          {"size", HumanBytes(info.value().size_bytes)},
                          {"allocated", HumanBytes(info.value().allocated_bytes)},
                          {"state", info.value().state}}));
  return kExitOk;
}

int VolumeCheck(const Home& home, const VolumeOptions& options) {
  auto volume = FindVolume(home, options);
  if (!volume) return Fail(volume.error());
  if (options.must_repair) return VolumeRepair(volume.value(), options);
  auto report = CheckVolume(volume.value(), options.verify_data);
  if (!report) return Fail(report.error());
  if (options.as_json) {
    fmt::print("{}\n", ToJson(report.value()).dump(2));
  } else {
    PrintCheck(volume.value().name, report.value());
  }
  return report.value().findings.empty() ? kExitOk : kExitFailed;
}

}  // namespace filer::command
