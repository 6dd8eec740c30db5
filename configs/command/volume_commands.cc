// `filer volume ...`: volume files of this machine. They work on the file itself, so the volume
// must not be served meanwhile; its lock says so.
#include <fmt/core.h>

#include <filesystem>

#include "base/json_rpc.h"
#include "configs/command/applied.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/served_volume.h"
#include "configs/command/volume_repair.h"
#include "configs/command/volumes.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kCheckPoolBytes = 256ULL << 20;

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

// What an engine changes cannot be checked beside it; it can verify its volume itself.
Error WhyNoCheck(const Home& home, const ServedVolume& served) {
  const bool has_scrub = CallEngine(home, served.state, "scrub.status").has_value();
  const std::string& name = served.volume.name;
  return Error(
      Errc::kRefused,
      fmt::format(
          "volume {}: the running filer serves it; {}stop it with `filer down` to check it", name,
          has_scrub ? fmt::format("`filer volume scrub {}` verifies it meanwhile, or ", name)
                    : ""));
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

int VolumeCheck(const Home& home, const VolumeOptions& options) {
  const auto served = FindServed(home, options);
  if (!served) return Fail(served.error());
  if (served.value().has_value()) return Fail(WhyNoCheck(home, *served.value()));
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
