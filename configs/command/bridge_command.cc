#include "configs/command/bridge_command.h"

#include <fmt/core.h>

namespace filer::command {

std::vector<std::string> BridgeCommand(const Home& home, const Installation& installation,
                                       const configs::ApplianceConfig& config,
                                       std::optional<int> poller_core) {
  std::vector<std::string> words = {installation.programs + "/bridge-keeper",
                                    "--control",
                                    home.KeeperControl(),
                                    "--ready",  // where the daemon answers
                                    home.BridgeControl(),
                                    "--",
                                    installation.programs + "/host-bridge",
                                    "--control",
                                    home.BridgeControl()};
  if (poller_core) words.insert(words.end(), {"--cpu", std::to_string(*poller_core)});
  for (std::size_t index = 0; index < config.volumes.size(); ++index) {
    const configs::VolumeConfig& volume = config.volumes[index];
    std::string text = fmt::format("name={},backend={},socket={}", volume.name,
                                   configs::ToText(volume.backend), home.VolumeSocket(index));
    if (volume.backend == configs::VolumeBackend::kFile) text += ",path=" + volume.path;
    if (volume.backend == configs::VolumeBackend::kMemory) {
      text += fmt::format(",size={}", volume.size_bytes);
    }
    if (volume.iops_max != 0) text += fmt::format(",iops={}", volume.iops_max);
    if (volume.bytes_per_s_max != 0) text += fmt::format(",bps={}", volume.bytes_per_s_max);
    words.insert(words.end(), {"--volume", text});
  }
  return words;
}

}  // namespace filer::command
