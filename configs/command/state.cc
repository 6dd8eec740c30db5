#include "configs/command/state.h"

#include <filesystem>

namespace filer::command {
namespace {

constexpr const char* kSchema = "filer.state/1";

Json ToJson(const ProcessId& process) {
  return {{"pid", process.pid}, {"start_ticks", process.start_ticks}};
}

ProcessId ToProcess(const Json& json) {
  return {json.at("pid").get<pid_t>(), json.at("start_ticks").get<std::uint64_t>()};
}

}  // namespace

Result<std::optional<RunningState>> LoadState(const Home& home) {
  auto text = ReadWholeFile(home.StateFile());
  if (!text && text.error() == Errc::kNotFound) return std::optional<RunningState>();
  if (!text) return std::move(text).assume_error();
  try {
    const Json json = Json::parse(text.value());
    if (json.at("schema") != kSchema) throw std::runtime_error("schema");
    RunningState state;
    state.mode = json.at("mode").get<std::string>();
    state.accel = json.at("accel").get<std::string>();
    state.accel_reason = json.at("accel_reason").get<std::string>();
    state.image_version = json.at("image_version").get<std::string>();
    state.bridge = ToProcess(json.at("bridge"));
    state.filer = ToProcess(json.at("filer"));
    state.qmp_socket = json.at("qmp_socket").get<std::string>();
    state.config_text = json.at("config_text").get<std::string>();
    return std::optional<RunningState>(std::move(state));
  } catch (const std::exception&) {
    return Error(Errc::kCorrupt,
                 home.StateFile() +
                     ": not a state file of this program; stop what runs by hand and remove it");
  }
}

Result<void> SaveState(const Home& home, const RunningState& state) {
  const Json json = {{"schema", kSchema},
                     {"mode", state.mode},
                     {"accel", state.accel},
                     {"accel_reason", state.accel_reason},
                     {"image_version", state.image_version},
                     {"bridge", ToJson(state.bridge)},
                     {"filer", ToJson(state.filer)},
                     {"qmp_socket", state.qmp_socket},
                     {"config_text", state.config_text}};
  return WriteFileAtomically(home.StateFile(), json.dump(2) + "\n", 0600);
}

}  // namespace filer::command
