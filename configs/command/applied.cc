#include "configs/command/applied.h"

#include <fmt/core.h>

#include <filesystem>

namespace filer::command {
namespace {

// As a shell takes it for one word: plain if it can be, else in single quotes.
std::string ShellWord(const std::string& text) {
  static constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  if (text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

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

Result<void> CheckAsRunning(const RunningState& running, bool has_viommu,
                            const UpOptions& options) {
  const bool has_accelerator = !options.accelerator.empty();
  std::string used;
  if (running.mode == "host") {
    if (has_accelerator || options.has_viommu) used = "no guest (mode host)";
  } else if (has_accelerator && options.accelerator != "auto" &&
             options.accelerator != running.accel) {
    used = "accelerator " + running.accel;
  } else if (options.has_viommu && !has_viommu) {
    used = "a guest without an IOMMU";
  }
  if (used.empty()) return Ok();
  return Error(Errc::kRefused, "the running filer uses " + used + "; run `filer down` first");
}

std::string NfsMountLine(const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share) {
  return fmt::format("mount -t nfs -o vers=4.2,port={} {}:/{} /mnt", config.nfs.port,
                     config.nfs.address, share.name);
}

std::string SmbMountLine(const Home& home, const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share) {
  return fmt::format("mount -t cifs -o port={},username={},password=$(cat {}) //{}/{} /mnt",
                     config.smb.port, config.smb.user, ShellWord(home.PasswordFile()),
                     config.smb.address, share.name);
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
