// applied.h: the configuration that a command works with, and what is derived from it for one
// running filer.
#pragma once

#include <string>

#include "base/result.h"
#include "configs/command/commands.h"
#include "configs/command/home.h"
#include "configs/command/state.h"
#include "configs/config.h"

namespace filer::command {

struct Applied {
  configs::ApplianceConfig config;
  std::string text;         // as read; empty for the default configuration
  std::string source;       // file name for messages; "default" without one
  bool is_default = false;  // volumes of the default configuration are made when they are missing
};

// `config_path`, else HOME/filer.toml, else the default. Errors: kConfigInvalid (all messages),
// kNotFound.
Result<Applied> LoadApplied(const Home& home, const std::string& config_path);
// What a running filer was started with.
Result<configs::ApplianceConfig> AppliedOf(const Home& home, const RunningState& state);

// Whether what the command line asks for is what runs; what it does not name is left as it is.
// Errors: kRefused, saying what the running filer uses.
Result<void> CheckAsRunning(const RunningState& running, bool has_viommu, const UpOptions& options);

// The lines a person pastes, and the addresses that programs take.
std::string NfsMountLine(const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share);
std::string SmbMountLine(const Home& home, const configs::ApplianceConfig& config,
                         const configs::ExportConfig& share);
std::string NfsUrl(const configs::ApplianceConfig& config, const configs::ExportConfig& share);
std::string SmbUrl(const configs::ApplianceConfig& config, const configs::ExportConfig& share);

}  // namespace filer::command
