#include "fsal/engine-control/quota_methods.h"

#include <array>

#include "fsal/engine-control/fileset_methods.h"

namespace filer::control {
namespace {

using engine::QuotaKind;

constexpr bool kMayWait = true;
constexpr std::uint64_t kBytesMax = 1ULL << 60;
constexpr std::uint64_t kInodesMax = 1ULL << 48;
constexpr std::uint64_t kSecondsMax = 10ULL * 365 * 86400;
constexpr std::size_t kRowsMax = 10'000;  // of an answer
constexpr std::array<const char*, engine::kQuotaKinds> kKinds = {"user", "group", "project"};

Result<QuotaKind> KindOf(const Params& params) {
  for (std::size_t at = 0; at < kKinds.size(); ++at) {
    if (params.Text("kind") == kKinds[at]) return static_cast<QuotaKind>(at);
  }
  return Error(Errc::kInvalidArgument,
               "kind '" + params.Text("kind") + "': it is user, group or project");
}

Result<std::uint32_t> FilesetOf(engine::Engine& engine, const Params& params) {
  return FindFilesetId(engine, params.Text("fileset"));
}

std::uint32_t IdOf(const Params& params) { return static_cast<std::uint32_t>(params.Count("id")); }

engine::Caller Administrator() {
  engine::Caller caller;
  caller.is_trusted = true;
  return caller;
}

Json ToJson(const engine::Quota& quota) {
  return {{"kind", kKinds[static_cast<std::size_t>(quota.kind)]},
          {"id", quota.id},
          {"used_bytes", quota.used_bytes},
          {"used_inodes", quota.used_inodes},
          {"bytes_soft", quota.limits.bytes_soft},
          {"bytes_hard", quota.limits.bytes_hard},
          {"inodes_soft", quota.limits.inodes_soft},
          {"inodes_hard", quota.limits.inodes_hard},
          {"bytes_deadline_ns", quota.bytes_deadline_ns},
          {"inodes_deadline_ns", quota.inodes_deadline_ns}};
}

Result<Json> ListQuotas(engine::Engine& engine, const Params& params) {
  const auto fileset = FILER_TRY(FilesetOf(engine, params));
  Json rows = Json::array();
  bool has_more = false;
  for (std::size_t at = 0; at < kKinds.size(); ++at) {
    const auto kind = static_cast<QuotaKind>(at);
    if (params.Has("kind") && FILER_TRY(KindOf(params)) != kind) continue;
    FILER_TRY(engine.ListQuotas(
        kind, static_cast<std::uint32_t>(params.Count("first_id")),
        [&](const engine::Quota& quota) {
          has_more = rows.size() == kRowsMax;
          if (!has_more) rows.push_back(ToJson(quota));
          return !has_more;
        },
        fileset));
  }
  return Json{{"quotas", rows}, {"has_more", has_more}};
}

Result<Json> ShowQuota(engine::Engine& engine, const Params& params) {
  return ToJson(FILER_TRY(engine.GetQuota(FILER_TRY(KindOf(params)), IdOf(params),
                                          FILER_TRY(FilesetOf(engine, params)))));
}

// What is not given stays as it is; 0 takes a limit away.
Result<Json> SetQuota(engine::Engine& engine, const Params& params) {
  const auto kind = FILER_TRY(KindOf(params));
  const auto fileset = FILER_TRY(FilesetOf(engine, params));
  auto limits = FILER_TRY(engine.GetQuota(kind, IdOf(params), fileset)).limits;
  limits.bytes_soft = params.Count("bytes_soft", limits.bytes_soft);
  limits.bytes_hard = params.Count("bytes_hard", limits.bytes_hard);
  limits.inodes_soft = params.Count("inodes_soft", limits.inodes_soft);
  limits.inodes_hard = params.Count("inodes_hard", limits.inodes_hard);
  const auto is_above = [](std::uint64_t soft, std::uint64_t hard) {
    return hard != 0 && soft > hard;
  };
  if (is_above(limits.bytes_soft, limits.bytes_hard) ||
      is_above(limits.inodes_soft, limits.inodes_hard)) {
    return Error(Errc::kInvalidArgument, "the soft limit is above the hard one");
  }
  FILER_TRY(engine.SetQuota(Administrator(), kind, IdOf(params), limits, fileset));
  return ToJson(FILER_TRY(engine.GetQuota(kind, IdOf(params), fileset)));
}

Result<Json> Grace(engine::Engine& engine, const Params& params) {
  const auto kind = FILER_TRY(KindOf(params));
  const auto fileset = FILER_TRY(FilesetOf(engine, params));
  auto grace = FILER_TRY(engine.GetQuotaGrace(kind, fileset));
  if (params.Has("bytes_seconds") || params.Has("inodes_seconds")) {
    grace.bytes_seconds = params.Count("bytes_seconds", grace.bytes_seconds);
    grace.inodes_seconds = params.Count("inodes_seconds", grace.inodes_seconds);
    FILER_TRY(engine.SetQuotaGrace(Administrator(), kind, grace, fileset));
  }
  return Json{{"kind", params.Text("kind")},
              {"bytes_seconds", grace.bytes_seconds},
              {"inodes_seconds", grace.inodes_seconds}};
}

}  // namespace

const std::vector<ControlMethod>& QuotaMethods() {
  const auto kind = RequiredText("kind", 16);
  const auto id = RequiredCount("id", 0, UINT32_MAX);
  const auto fileset = OptionalText("fileset", 63);
  static const std::vector<ControlMethod> kMethods = {
      {"quota.list",
       {OptionalText("kind", 16), OptionalCount("first_id", 0, UINT32_MAX), fileset},
       ListQuotas,
       kMayWait},
      {"quota.show", {kind, id, fileset}, ShowQuota, kMayWait},
      {"quota.set",
       {kind, id, OptionalCount("bytes_soft", 0, kBytesMax),
        OptionalCount("bytes_hard", 0, kBytesMax), OptionalCount("inodes_soft", 0, kInodesMax),
        OptionalCount("inodes_hard", 0, kInodesMax), fileset},
       SetQuota,
       kMayWait},
      {"quota.grace",
       {kind, OptionalCount("bytes_seconds", 0, kSecondsMax),
        OptionalCount("inodes_seconds", 0, kSecondsMax), fileset},
       Grace,
       kMayWait},
  };
  return kMethods;
}

}  // namespace filer::control
