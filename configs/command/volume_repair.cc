#include "configs/command/volume_repair.h"

#include <fmt/core.h>

#include "base/json_rpc.h"
#include "configs/command/console.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kRepairPoolBytes = 256ULL << 20;

Json ToJson(const std::vector<engine::CheckFinding>& findings) {
  Json all = Json::array();
  for (const engine::CheckFinding& finding : findings) {
    all.push_back({{"what", finding.what}, {"where", finding.where}, {"path", finding.path}});
  }
  return all;
}

void Print(const char* kind, const std::vector<engine::CheckFinding>& findings) {
  for (const engine::CheckFinding& finding : findings) {
    fmt::print("{}: {}: {}{}{}\n", kind, finding.where, finding.what,
               finding.path.empty() ? "" : ", file ", finding.path);
  }
}

Result<engine::RepairReport> Repair(const configs::VolumeConfig& volume,
                                    const VolumeOptions& options) {
  const auto device = FILER_TRY(engine::OpenFileDevice(
      {.path = volume.path, .is_read_only = options.is_dry_run, .pool_bytes = kRepairPoolBytes}));
  engine::RepairOptions repair;
  repair.is_dry_run = options.is_dry_run;
  return engine::Engine::Repair(*device, repair);
}

}  // namespace

int VolumeRepair(const configs::VolumeConfig& volume, const VolumeOptions& options) {
  if (!options.is_dry_run && !options.is_confirmed) {
    return Fail(Error(Errc::kUsage,
                      "--repair changes the volume: --dry-run says what it would do, and with "
                      "--yes it does that"));
  }
  const auto repaired = Repair(volume, options);
  if (!repaired) return Fail(repaired.error());
  const engine::RepairReport& report = repaired.value();
  if (options.as_json) {
    const Json json = {
        {"schema", "filer.repair/1"},        {"mended", ToJson(report.mended)},
        {"damaged", ToJson(report.damaged)}, {"inodes", report.inodes},
        {"used_blocks", report.used_blocks}, {"bytes_verified", report.bytes_verified},
        {"was_written", report.was_written}};
    fmt::print("{}\n", json.dump(2));
  } else {
    Print(options.is_dry_run ? "would mend" : "mended", report.mended);
    Print("damaged", report.damaged);
    fmt::print("volume {}: {} things {}, {} files damaged: {}\n", volume.name, report.mended.size(),
               options.is_dry_run ? "to mend" : "mended", report.damaged.size(),
               report.was_written ? "changed" : "left as it was");
  }
  return report.damaged.empty() ? kExitOk : kExitFailed;
}

}  // namespace filer::command
