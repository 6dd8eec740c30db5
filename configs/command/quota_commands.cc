// `filer quota ...`: asked of the engine of the running filer
// (fsal/engine-control/quota_methods.cc).
#include <fmt/chrono.h>
#include <fmt/core.h>

#include <charconv>
#include <chrono>

#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/state.h"
#include "configs/syntax.h"

namespace filer::command {
namespace {

constexpr auto kTimeout = std::chrono::seconds(60);

Result<std::uint64_t> NumberOf(const std::string& what, const std::string& text) {
  std::uint64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  if (read.ec != std::errc{} || read.ptr != end) {
    return Error(Errc::kUsage, fmt::format("{} '{}': a number is wanted", what, text));
  }
  return number;
}

Result<void> AddLimit(Json& params, const std::string& name, const std::string& text) {
  if (text.empty()) return Ok();
  const bool is_size = name.starts_with("bytes");
  const auto value = is_size ? configs::ParseSize(text) : NumberOf(name, text);
  if (!value) {
    return Error(Errc::kUsage,
                 fmt::format("{} {}: not a {}; 0 takes the limit away", name, text,
                             is_size ? "size; write it as 512M, 8G or 2T" : "number"));
  }
  params[name] = value.value();
  return Ok();
}

Result<Json> ParamsOf(const std::string& verb, const QuotaOptions& options) {
  Json params = Json::object();
  if (!options.kind.empty()) params["kind"] = options.kind;
  if (!options.id.empty()) params["id"] = FILER_TRY(NumberOf("ID", options.id));
  if (!options.fileset.empty()) params["fileset"] = options.fileset;
  if (verb == "set") {
    FILER_TRY(AddLimit(params, "bytes_soft", options.bytes_soft));
    FILER_TRY(AddLimit(params, "bytes_hard", options.bytes_hard));
    FILER_TRY(AddLimit(params, "inodes_soft", options.inodes_soft));
    FILER_TRY(AddLimit(params, "inodes_hard", options.inodes_hard));
  }
  if (verb == "grace") {
    for (const auto& [name, text] : {std::pair("bytes_seconds", options.bytes_seconds),
                                     std::pair("inodes_seconds", options.inodes_seconds)}) {
      if (!text.empty()) params[name] = FILER_TRY(NumberOf("seconds", text));
    }
  }
  return params;
}

std::string BytesText(const Json& row, const char* name) {
  const auto value = row.value(name, std::uint64_t{0});
  return value == 0 ? "-" : HumanBytes(value);
}

std::string CountText(const Json& row, const char* name) {
  const auto value = row.value(name, std::uint64_t{0});
  return value == 0 ? "-" : fmt::to_string(value);
}

// The earlier of the two, as a date.
std::string DeadlineText(const Json& row) {
  auto first = row.value("bytes_deadline_ns", std::int64_t{0});
  const auto other = row.value("inodes_deadline_ns", std::int64_t{0});
  if (first == 0 || (other != 0 && other < first)) first = other;
  if (first == 0) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M}",
                     fmt::localtime(static_cast<std::time_t>(first / 1'000'000'000)));
}

void Print(const Json& rows) {
  std::vector<std::vector<std::string>> table = {
      {"KIND", "ID", "USED", "SOFT", "HARD", "FILES", "SOFT", "HARD", "GRACE UNTIL"}};
  for (const Json& row : rows) {
    table.push_back(
        {row.value("kind", ""), fmt::to_string(row.value("id", std::uint32_t{0})),
         HumanBytes(row.value("used_bytes", std::uint64_t{0})), BytesText(row, "bytes_soft"),
         BytesText(row, "bytes_hard"), fmt::to_string(row.value("used_inodes", std::uint64_t{0})),
         CountText(row, "inodes_soft"), CountText(row, "inodes_hard"), DeadlineText(row)});
  }
  fmt::print("{}", Table(table));
}

Result<Json> Ask(const Home& home, const std::string& verb, const QuotaOptions& options) {
  const auto params = FILER_TRY(ParamsOf(verb, options));
  const auto state = FILER_TRY(LoadState(home));
  if (!state.has_value()) {
    return Error(Errc::kNotRunning,
                 "the filer of " + home.root + " is not running; start it with `filer up`");
  }
  return CallEngine(home, *state, "quota." + verb, params, kTimeout);
}

}  // namespace

int Quota(const Home& home, const std::string& verb, const QuotaOptions& options) {
  auto answer = Ask(home, verb, options);
  if (!answer) return Fail(answer.error());
  Json json = std::move(answer).value();
  if (options.as_json) {
    json["schema"] = "filer.quota-" + verb + "/1";
    fmt::print("{}\n", json.dump(2));
  } else if (verb == "list") {
    Print(json["quotas"]);
    if (json.value("has_more", false)) fmt::print("there are more\n");
  } else if (verb == "grace") {
    fmt::print("{}: {} s above the soft limit of bytes, {} s above that of files\n", options.kind,
               json.value("bytes_seconds", std::uint64_t{0}),
               json.value("inodes_seconds", std::uint64_t{0}));
  } else {
    Print(Json::array({json}));
  }
  return kExitOk;
}

}  // namespace filer::command
