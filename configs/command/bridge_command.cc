#include "configs/command/bridge_command.h"

#include <fmt/format.h>

namespace filer::command {

std::vector<std::string> BridgeCommand(const Home& home, const Installation& installation,
                                       const configs::ApplianceConfig& config,
                                       const std::vector<int>& poller_cores) {
  std::vector<std::string> words = {installation.programs + "/bridge-keeper",
                                    "--control",
                                    home.KeeperControl(),
                                    "--ready",  // where the daemon answers
                                    home.BridgeControl(),
                                    "--",
                                    installation.programs + "/host-bridge",
                                    "--control",
                                    home.BridgeControl()};
  if (config.bridge.pollers != 1) {
    words.insert(words.end(), {"--pollers", std::to_string(config.bridge.pollers)});
  }
  if (!poller_cores.empty()) {
    words.insert(words.end(), {"--cpu", fmt::format("{}", fmt::join(poller_cores, ","))});
  }
  for (std::size_t index = 0; index < config.volumes.size(); ++index) {
    const configs::VolumeConfig& volume = config.volumes[index];
    // No value holds a ',': see WhyNotVolumePath, IsName and HomeAt.
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
