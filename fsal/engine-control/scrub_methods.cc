#include "fsal/engine-control/scrub_methods.h"

#include <algorithm>

#include "base/clock.h"

namespace filer::control {
namespace {

constexpr double kNodeBytes = 16384;  // of the tree: what counts beside the bytes of data

const char* StateOf(const engine::ScrubStatus& status) {
  if (status.is_running) return "running";
  if (status.started_ns == 0) return "never";
  if (!status.failure.empty()) return "failed";
  return status.finished_ns >= status.started_ns ? "finished" : "stopped";
}

// How far a pass is, and how long the rest takes at the pace so far.
Json ToJson(const engine::ScrubStatus& status) {
  Json findings = Json::array();
  for (const auto& finding : status.findings) {
    findings.push_back({{"what", finding.what}, {"where", finding.where}, {"path", finding.path}});
  }
  const std::string state = StateOf(status);
  const double done = static_cast<double>(status.nodes_verified) * kNodeBytes +
                      static_cast<double>(status.bytes_verified);
  const double total = std::max(done, static_cast<double>(status.nodes_total) * kNodeBytes +
                                          static_cast<double>(status.bytes_total));
  const std::int64_t end_ns = status.is_running ? SystemClock().RealtimeNs() : status.finished_ns;
  const double seconds = std::max(0.0, static_cast<double>(end_ns - status.started_ns) / 1e9);
  Json json = {{"state", state},
               {"passes", status.passes},
               {"percent", state == "finished" ? 100.0
                           : total == 0        ? 0.0
                                               : 100 * done / total},
               {"seconds", seconds},
               {"remaining_s", nullptr},
               {"nodes_verified", status.nodes_verified},
               {"nodes_total", status.nodes_total},
               {"bytes_verified", status.bytes_verified},
               {"bytes_total", status.bytes_total},
               {"findings", std::move(findings)},
               {"has_more_findings", status.has_more_findings},
               {"failure", status.failure}};
  if (status.is_running && done > 0) json["remaining_s"] = seconds * (total - done) / done;
  return json;
}

}  // namespace

Result<Json> StartScrub(engine::Engine& engine, const Params& params) {
  engine::ScrubOptions options;
  options.from_start = params.Flag("from_start");
  options.bytes_per_second = params.Count("bytes_per_second", options.bytes_per_second);
  FILER_TRY(engine.StartScrub(options));
  return ToJson(engine.GetScrubStatus());
}

Result<Json> ScrubProgress(engine::Engine& engine, const Params&) {
  return ToJson(engine.GetScrubStatus());
}

Result<Json> StopScrub(engine::Engine& engine, const Params&) {
  FILER_TRY(engine.StopScrub());
  return ToJson(engine.GetScrubStatus());
}

}  // namespace filer::control
