// `filer snapshot ...` and `filer fileset ...`: asked of the engine of the running filer
// (fsal/engine-control/fileset_methods.cc).
#include <fmt/chrono.h>
#include <fmt/core.h>

#include <chrono>

#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/state.h"

namespace filer::command {
namespace {

// A checkpoint of a busy volume on a slow disk.
constexpr auto kTimeout = std::chrono::seconds(60);

std::string TimeText(const Json& row) {
  const auto seconds = row.value("created_ns", std::int64_t{0}) / 1'000'000'000;
  if (seconds == 0) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(static_cast<std::time_t>(seconds)));
}

Result<Json> Ask(const Home& home, const std::string& method, const Json& params) {
  const auto state = FILER_TRY(LoadState(home));
  if (!state.has_value()) {
    return Error(Errc::kNotRunning,
                 "the filer of " + home.root + " is not running; start it with `filer up`");
  }
  return CallEngine(home, *state, method, params, kTimeout);
}

Json ParamsOf(const FilesetOptions& options) {
  Json params = Json::object();
  if (!options.name.empty()) params["name"] = options.name;
  if (!options.new_name.empty()) params["new_name"] = options.new_name;
  if (!options.fileset.empty()) params["fileset"] = options.fileset;
  if (options.must_delete_newer) params["must_delete_newer"] = true;
  return params;
}

void PrintSnapshots(const Json& rows) {
  std::vector<std::vector<std::string>> table = {
      {"FILESET", "SNAPSHOT", "CREATED", "FILES", "UNIQUE", "HOLDS"}};
  for (const Json& row : rows) {
    table.push_back({row.value("fileset", ""), row.value("name", ""), TimeText(row),
                     fmt::to_string(row.value("files", std::uint64_t{0})),
                     HumanBytes(row.value("unique_bytes", std::uint64_t{0})),
                     fmt::to_string(row.value("holds", 0))});
  }
  fmt::print("{}", Table(table));
}

void PrintFilesets(const Json& rows) {
  std::vector<std::vector<std::string>> table = {
      {"FILESET", "CREATED", "FILES", "FSID", "CLONE OF"}};
  for (const Json& row : rows) {
    table.push_back({row.value("name", ""), TimeText(row),
                     fmt::to_string(row.value("files", std::uint64_t{0})), row.value("fsid", ""),
                     row.value("origin_fileset", "-")});
  }
  fmt::print("{}", Table(table));
}

// What was done, in a line.
std::string Sentence(const std::string& verb, const FilesetOptions& options, const Json& done) {
  const std::string name = options.name;
  if (verb == "create") return fmt::format("{}: made", name);
  if (verb == "rename") return fmt::format("{}: is {} now", name, options.new_name);
  if (verb == "hold" || verb == "release") {
    return fmt::format("{}: {} holds", name, done.value("holds", 0));
  }
  if (verb == "clone") return fmt::format("{}: fileset {} made", name, options.new_name);
  if (verb == "rollback") {
    return fmt::format("fileset {}: is what it was at {}", done.value("fileset", ""), name);
  }
  return fmt::format("{}: deleted; its space comes back in the background", name);
}

int Run(const Home& home, const std::string& noun, const std::string& verb,
        const FilesetOptions& options) {
  auto answer = Ask(home, noun + "." + verb, ParamsOf(options));
  if (!answer) return Fail(answer.error());
  Json json = std::move(answer).value();
  if (options.as_json) {
    json["schema"] = "filer." + noun + "-" + verb + "/1";
    fmt::print("{}\n", json.dump(2));
  } else if (verb != "list") {
    fmt::print("{} {}\n", noun, Sentence(verb, options, json));
  } else if (noun == "snapshot") {
    PrintSnapshots(json["snapshots"]);
  } else {
    PrintFilesets(json["filesets"]);
  }
  return kExitOk;
}

}  // namespace

int Snapshot(const Home& home, const std::string& verb, const FilesetOptions& options) {
  if (verb == "rollback" && !options.is_agreed) {
    return Fail(Error(Errc::kRefused,
                      fmt::format("snapshot rollback {}: what was written since would be lost; say "
                                  "--yes if that is meant",
                                  options.name)));
  }
  return Run(home, "snapshot", verb, options);
}

int Fileset(const Home& home, const std::string& verb, const FilesetOptions& options) {
  if (verb == "delete" && !options.is_agreed) {
    return Fail(Error(Errc::kRefused, fmt::format("fileset delete {}: its data would be lost; say "
                                                  "--yes if that is meant",
                                                  options.name)));
  }
  return Run(home, "fileset", verb, options);
}

}  // namespace filer::command
