// `filer volume show NAME`: one volume, as the engine that serves it says; or, when nobody serves
// it, as a look at its file says, which changes nothing.
#include <fmt/core.h>

#include "base/clock.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/served_volume.h"
#include "configs/command/volumes.h"
#include "fsal/engine-control/volume_methods.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/engine.h"

namespace filer::command {
namespace {

constexpr std::uint64_t kLookPoolBytes = 64ULL << 20;

struct Shown {
  VolumeInfo info;
  bool is_served = false;
  Json engine;  // `volume.show`; null when it could not be mounted for a look
};

// 8-4-4-4-12, as a label has it.
std::string Dashed(std::string uuid) {
  for (const std::size_t at : {8, 13, 18, 23}) {
    if (uuid.size() > at) uuid.insert(at, "-");
  }
  return uuid;
}

Result<Shown> ShowServed(const Home& home, const ServedVolume& served) {
  Shown shown;
  shown.info.name = served.volume.name;
  if (served.volume.backend == configs::VolumeBackend::kFile) {
    shown.info = FILER_TRY(MeasureVolume(served.volume));
  }
  shown.is_served = true;
  auto answer = CallEngine(home, served.state, "volume.show");
  if (!answer) {
    return Error(answer.error().code(),
                 fmt::format("volume {}: it is served, but its engine does not tell of it: {}",
                             served.volume.name, answer.error().message()));
  }
  shown.engine = std::move(answer).value();
  shown.info.state = "served";
  shown.info.label = TextAt(shown.engine, "/name");
  shown.info.uuid = Dashed(TextAt(shown.engine, "/uuid"));
  if (shown.info.size_bytes == 0) shown.info.size_bytes = CountAt(shown.engine, "/size_bytes");
  return shown;
}

// Mounted for a look: the log is read into memory, and nothing is written.
Result<Json> Look(const configs::VolumeConfig& volume) {
  const auto device = FILER_TRY(engine::OpenFileDevice(
      {.path = volume.path, .is_read_only = true, .pool_bytes = kLookPoolBytes}));
  engine::MountOptions options;
  options.read_only = true;
  const auto engine = FILER_TRY(engine::Engine::Mount(*device, SystemClock(), options));
  Json look = control::DescribeVolume(*engine);
  FILER_TRY(engine->Unmount());
  return look;
}

Result<Shown> ShowFile(const configs::VolumeConfig& volume) {
  Shown shown;
  shown.info = FILER_TRY(InspectVolume(volume));
  auto look = Look(volume);
  if (look) {
    shown.engine = std::move(look).value();
  } else {
    shown.info.state = look.error().message();
  }
  return shown;
}

Result<Shown> Show(const Home& home, const VolumeOptions& options) {
  const auto served = FILER_TRY(FindServed(home, options));
  if (served.has_value()) return ShowServed(home, *served);
  return ShowFile(FILER_TRY(FindVolume(home, options)));
}

void Print(const Shown& shown) {
  std::vector<std::vector<std::string>> rows = {
      {"name", shown.info.name},
      {"label", shown.info.label},
      {"path", shown.info.path},
      {"uuid", shown.info.uuid},
      {"size", HumanBytes(shown.info.size_bytes)},
      {"allocated", HumanBytes(shown.info.allocated_bytes)},
      {"state", shown.info.state}};
  if (shown.engine.is_object()) {
    for (auto& row : VolumeRows(shown.engine, shown.is_served)) rows.push_back(std::move(row));
  }
  fmt::print("{}", Table(rows));
}

}  // namespace

int VolumeShow(const Home& home, const VolumeOptions& options) {
  const auto shown = Show(home, options);
  if (!shown) return Fail(shown.error());
  if (options.as_json) {
    Json json = ToJson(shown.value().info);
    json["schema"] = "filer.volume/1";
    json["served"] = shown.value().is_served;
    json["engine"] = shown.value().engine;
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    Print(shown.value());
  }
  return shown.value().engine.is_object() ? kExitOk : kExitFailed;
}

}  // namespace filer::command
