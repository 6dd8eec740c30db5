// `filer status`: one screen that tells whether the filer is healthy, and that the bridge runs
// without doorbells, interrupts and copies.
#include <fmt/core.h>

#include "configs/command/applied.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/served_volume.h"
#include "configs/command/state.h"

namespace filer::command {
namespace {

struct BridgeTotals {
  std::uint64_t requests = 0;
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t payload_bytes = 0;

  double PerRequest(std::uint64_t count) const {
    return requests == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(requests);
  }
};

BridgeTotals Sum(const Json& bridge) {
  BridgeTotals totals;
  for (const Json& volume : bridge.value("volumes", Json::array())) {
    const Json counters = volume.value("counters", Json::object());
    totals.requests += counters.value("requests", std::uint64_t{0});
    totals.kicks += counters.value("kicks", std::uint64_t{0});
    totals.interrupts += counters.value("interrupts", std::uint64_t{0});
    totals.copied_bytes += counters.value("copied_bytes", std::uint64_t{0});
    totals.payload_bytes += counters.value("read_bytes", std::uint64_t{0}) +
                            counters.value("write_bytes", std::uint64_t{0});
  }
  return totals;
}

Json Exports(const configs::ApplianceConfig& config, const Liveness& live) {
  Json exports = Json::array();
  Json engine = live.health.value("engine", Json::object());
  if (!engine.is_object()) engine = Json::object();  // null while the engine does not answer
  for (const configs::ExportConfig& share : config.exports) {
    Json row = {{"name", share.name}, {"path", share.path}, {"volume", share.volume}};
    if (share.nfs) row["nfs_url"] = NfsUrl(config, share);
    if (share.smb) row["smb_url"] = SmbUrl(config, share);
    for (const Json& served : engine.value("exports", Json::array())) {
      if (served.value("path", "") == share.path) row["ok"] = served.value("ok", false);
    }
    exports.push_back(row);
  }
  return exports;
}

Json Report(const Home& home, const RunningState& state, const configs::ApplianceConfig& config,
            const Liveness& live) {
  const BridgeTotals totals = Sum(live.bridge);
  Json report = {{"schema", "filer.status/1"},
                 {"state", live.HealthState()},
                 {"mode", state.mode},
                 {"accel", state.accel},
                 {"accel_reason", state.accel_reason},
                 {"image", state.image_version},
                 {"volumes", live.bridge.value("volumes", Json::array())},
                 {"exports", Exports(config, live)},
                 {"services", live.health.value("services", Json::array())},
                 {"engine", live.health.value("engine", Json::object())},
                 {"nfs", {{"address", config.nfs.address}, {"port", config.nfs.port}}},
                 {"smb",
                  {{"address", config.smb.address},
                   {"port", config.smb.port},
                   {"user", config.smb.user},
                   {"password_file", home.PasswordFile()}}}};
  report["bridge"] = {{"running", live.is_bridge_running},
                      {"pid", live.bridge.value("pid", 0)},
                      {"keeper_pid", state.bridge.pid},
                      {"keeper", live.keeper},
                      {"requests", totals.requests},
                      {"kicks_per_io", totals.PerRequest(totals.kicks)},
                      {"interrupts_per_io", totals.PerRequest(totals.interrupts)},
                      {"copied_bytes_per_io", totals.PerRequest(totals.copied_bytes)},
                      {"poller", live.bridge.value("poller", Json::object())}};
  report["filer"] = {{"running", live.is_filer_running}, {"pid", state.filer.pid}};
  return report;
}

void Print(const Json& report) {
  fmt::print("filer {}  mode {}  accelerator {} ({})\n\n", report["state"].get<std::string>(),
             report["mode"].get<std::string>(), report["accel"].get<std::string>(),
             report["accel_reason"].get<std::string>());
  std::vector<std::vector<std::string>> volumes = {
      {"VOLUME", "BACKEND", "SIZE", "CONNECTED", "REQUESTS", "ERRORS"}};
  for (const Json& volume : report["volumes"]) {
    const Json counters = volume.value("counters", Json::object());
    volumes.push_back({volume.value("name", "?"), volume.value("backend", "?"),
                       HumanBytes(volume.value("size_bytes", std::uint64_t{0})),
                       volume.value("connected", false) ? "yes" : "no",
                       std::to_string(counters.value("requests", std::uint64_t{0})),
                       std::to_string(counters.value("errors", std::uint64_t{0}))});
  }
  fmt::print("{}\n", Table(volumes));
  std::vector<std::vector<std::string>> exports = {{"EXPORT", "PATH", "NFS", "SMB"}};
  for (const Json& share : report["exports"]) {
    exports.push_back({share.value("name", "?"), share.value("path", "?"),
                       share.value("nfs_url", "-"), share.value("smb_url", "-")});
  }
  fmt::print("{}\n", Table(exports));
  const Json& bridge = report["bridge"];
  fmt::print(
      "bridge: {} requests, {:.4f} doorbells, {:.4f} interrupts and {:.1f} copied bytes per "
      "request\n",
      bridge["requests"].get<std::uint64_t>(), bridge["kicks_per_io"].get<double>(),
      bridge["interrupts_per_io"].get<double>(), bridge["copied_bytes_per_io"].get<double>());
  fmt::print("{}", StatisticsText(report["engine"]));
  const Json& keeper = bridge["keeper"];
  if (keeper.value("restarts", 0) > 0) {
    fmt::print("        started again {} times: the last one {}\n", keeper.value("restarts", 0),
               keeper.value("last_end", "?"));
  }
}

}  // namespace

int Status(const Home& home, bool as_json) {
  auto state = LoadState(home);
  if (!state) return Fail(state.error());
  if (!state.value().has_value()) {
    return Fail(Error(Errc::kNotRunning,
                      "the filer of " + home.root + " is not running; start it with `filer up`"));
  }
  auto config = AppliedOf(home, *state.value());
  if (!config) return Fail(config.error());
  const Liveness live = Look(home, *state.value());
  const Json report = Report(home, *state.value(), config.value(), live);
  if (as_json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    Print(report);
  }
  const bool is_healthy = live.is_bridge_running && live.HealthState() == "ready";
  if (!is_healthy) {
    fmt::print(stderr, "filer: {}{}; `filer up` starts again what is missing\n",
               live.is_bridge_running ? "" : "the bridge is " + live.BridgeState() + ", ",
               "file services: " + live.HealthState());
  }
  return is_healthy
             ? kExitOk
             : (live.is_filer_running || live.is_bridge_running ? kExitFailed : kExitNotRunning);
}

}  // namespace filer::command
