#include "configs/command/applied.h"

#include <fmt/core.h>

#include <filesystem>

namespace filer::command {

Result<Applied> LoadApplied(const Home& home, const std::string& config_path) {
  Applied applied;
  applied.source = config_path.empty() ? home.ConfigFile() : config_path;
  if (config_path.empty() && !std::filesystem::exists(applied.source)) {
    applied.source = "default";
    applied.is_default = true;
    applied.config = configs::DefaultConfig(home.root);
    return applied;
  }
  applied.text = FILER_TRY(ReadWholeFile(applied.source));
  auto parsed = configs::ParseConfig(applied.text, applied.source, home.root);
  if (!parsed.is_valid()) {
    std::string all;
    for (const std::string& error : parsed.errors) all += (all.empty() ? "" : "\n") + error;
    return Error(Errc::kConfigInvalid, all);
  }
  applied.config = std::move(parsed.config);
  return applied;
}

Result<configs::ApplianceConfig> AppliedOf(const Home& home, const RunningState& state) {
  auto parsed = configs::ParseConfig(state.config_text, home.StateFile(), home.root);
  if (!parsed.is_valid()) return Error(Errc::kCorrupt, parsed.errors.front());
  return std::move(parsed.config);
}

std::string NfsMountLine(const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share) {
  return fmt::format("mount -t nfs -o vers=4.2,port={} {}:/{} /mnt", config.nfs.port,
                     config.nfs.address, share.name);
}

std::string SmbMountLine(const Home& home, const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share) {
  return fmt::format("mount -t cifs -o port={},username={},password=$(cat {}) //{}/{} /mnt",
                     config.smb.port, config.smb.user, home.PasswordFile(), config.smb.address,
                     share.name);
}

std::string NfsUrl(const configs::ApplianceConfig& config, const configs::ExportConfig& share) {
  return fmt::format("nfs://{}/{}?nfsport={}&mountport={}&version=4", config.nfs.address,
                     share.name, config.nfs.port, config.nfs.port);  // MOUNT is answered there, too
}

std::string SmbUrl(const configs::ApplianceConfig& config, const configs::ExportConfig& share) {
  return fmt::format("smb://{}@{}:{}/{}", config.smb.user, config.smb.address, config.smb.port,
                     share.name);
}

}  // namespace filer::command
