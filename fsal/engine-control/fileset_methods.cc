#include "fsal/engine-control/fileset_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "fsal/engine/filesets.h"

namespace filer::control {
namespace {

using engine::FilesetInfo;
using engine::SnapshotInfo;

constexpr std::uint64_t kNameBytesMax = 63;
constexpr bool kMayWait = true;

std::string FsidText(std::uint64_t fsid) { return fmt::format("{:016x}", fsid); }

Json ToJson(const FilesetInfo& info, const std::vector<FilesetInfo>& all) {
  Json json = {{"name", info.name},
               {"id", info.id},
               {"fsid", FsidText(info.fsid)},
               {"files", info.files},
               {"created_ns", info.made_ns}};
  if (info.origin_snapshot == 0) return json;
  const auto origin = std::ranges::find(all, info.origin_fileset, &FilesetInfo::id);
  json["origin_fileset"] = origin == all.end() ? "" : origin->name;
  json["origin_snapshot_id"] = info.origin_snapshot;
  return json;
}

Json ToJson(const SnapshotInfo& info, const std::string& fileset) {
  return {{"fileset", fileset},
          {"name", info.name},
          {"id", info.id},
          {"fsid", FsidText(info.fsid)},
          {"files", info.files},
          {"created_ns", info.made_ns},
          {"unique_bytes", info.unique_bytes},
          {"holds", info.holds}};
}

Result<FilesetInfo> FindFileset(engine::Engine& engine, const std::string& name) {
  const auto all = engine.AllFilesets().List();
  if (name.empty()) return all.front();
  const auto found = std::ranges::find(all, name, &FilesetInfo::name);
  if (found != all.end()) return *found;
  return Error(Errc::kNotFound,
               fmt::format("fileset '{}': there is none of that name; `filer fileset list` has "
                           "those there are",
                           name));
}

Result<FilesetInfo> FilesetOf(engine::Engine& engine, const Params& params) {
  return FindFileset(engine, params.Text("fileset"));
}

Result<SnapshotInfo> SnapshotOf(engine::Engine& engine, const Params& params) {
  const FilesetInfo fileset = FILER_TRY(FilesetOf(engine, params));
  for (SnapshotInfo& info : FILER_TRY(engine.AllFilesets().ListSnapshots(fileset.id))) {
    if (info.name == params.Text("name")) return std::move(info);
  }
  return Error(Errc::kNotFound,
               fmt::format("snapshot '{}' of fileset '{}': there is none of that name; `filer "
                           "snapshot list` has those there are",
                           params.Text("name"), fileset.name));
}

Result<Json> ListFilesets(engine::Engine& engine, const Params&) {
  Json rows = Json::array();
  const auto all = engine.AllFilesets().List();
  for (const FilesetInfo& info : all) rows.push_back(ToJson(info, all));
  return Json{{"filesets", rows}};
}

Result<Json> CreateFileset(engine::Engine& engine, const Params& params) {
  return ToJson(FILER_TRY(engine.AllFilesets().Create(params.Text("name"))), {});
}

Result<Json> RenameFileset(engine::Engine& engine, const Params& params) {
  const FilesetInfo info = FILER_TRY(FindFileset(engine, params.Text("name")));
  FILER_TRY(engine.AllFilesets().Rename(info.id, params.Text("new_name")));
  return Json{{"name", params.Text("new_name")}};
}

Result<Json> DeleteFileset(engine::Engine& engine, const Params& params) {
  const FilesetInfo info = FILER_TRY(FindFileset(engine, params.Text("name")));
  FILER_TRY(engine.AllFilesets().Delete(info.id));
  return Json{{"name", info.name}};
}

Result<Json> ListSnapshots(engine::Engine& engine, const Params& params) {
  Json rows = Json::array();
  for (const FilesetInfo& fileset : engine.AllFilesets().List()) {
    if (params.Has("fileset") && fileset.name != params.Text("fileset")) continue;
    for (const SnapshotInfo& info : FILER_TRY(engine.AllFilesets().ListSnapshots(fileset.id))) {
      rows.push_back(ToJson(info, fileset.name));
    }
  }
  if (rows.empty() && params.Has("fileset")) FILER_TRY(FilesetOf(engine, params));
  return Json{{"snapshots", rows}};
}

Result<Json> CreateSnapshot(engine::Engine& engine, const Params& params) {
  const FilesetInfo fileset = FILER_TRY(FilesetOf(engine, params));
  const auto made = FILER_TRY(engine.AllFilesets().MakeSnapshot(fileset.id, params.Text("name")));
  return ToJson(made, fileset.name);
}

Result<Json> RenameSnapshot(engine::Engine& engine, const Params& params) {
  const SnapshotInfo info = FILER_TRY(SnapshotOf(engine, params));
  FILER_TRY(engine.AllFilesets().RenameSnapshot(info.id, params.Text("new_name")));
  return Json{{"name", params.Text("new_name")}};
}

Result<Json> HoldSnapshot(engine::Engine& engine, const Params& params) {
  const SnapshotInfo info = FILER_TRY(SnapshotOf(engine, params));
  FILER_TRY(engine.AllFilesets().HoldSnapshot(info.id, true));
  return Json{{"name", info.name}, {"holds", info.holds + 1}};
}

Result<Json> ReleaseSnapshot(engine::Engine& engine, const Params& params) {
  const SnapshotInfo info = FILER_TRY(SnapshotOf(engine, params));
  FILER_TRY(engine.AllFilesets().HoldSnapshot(info.id, false));
  return Json{{"name", info.name}, {"holds", info.holds - 1}};
}

Result<Json> DeleteSnapshot(engine::Engine& engine, const Params& params) {
  const SnapshotInfo info = FILER_TRY(SnapshotOf(engine, params));
  FILER_TRY(engine.AllFilesets().DeleteSnapshot(info.id));
  return Json{{"name", info.name}, {"freed_bytes", info.unique_bytes}};
}

// To the newest one, or, with "must_delete_newer", to an older one.
Result<Json> RollBack(engine::Engine& engine, const Params& params) {
  const FilesetInfo fileset = FILER_TRY(FilesetOf(engine, params));
  const SnapshotInfo to = FILER_TRY(SnapshotOf(engine, params));
  auto all = FILER_TRY(engine.AllFilesets().ListSnapshots(fileset.id));
  Json deleted = Json::array();
  for (; !all.empty() && all.back().id != to.id; all.pop_back()) {
    if (!params.Flag("must_delete_newer")) {
      return Error(Errc::kBusy,
                   fmt::format("snapshot '{}' is newer than '{}'; delete it first, or say "
                               "--delete-newer",
                               all.back().name, to.name));
    }
    FILER_TRY(engine.AllFilesets().DeleteSnapshot(all.back().id));
    deleted.push_back(all.back().name);
  }
  FILER_TRY(engine.AllFilesets().RollBack(fileset.id));
  return Json{{"fileset", fileset.name}, {"name", to.name}, {"deleted", deleted}};
}

Result<Json> CloneSnapshot(engine::Engine& engine, const Params& params) {
  const SnapshotInfo info = FILER_TRY(SnapshotOf(engine, params));
  const auto made = FILER_TRY(engine.AllFilesets().Clone(info.id, params.Text("new_name")));
  return ToJson(made, engine.AllFilesets().List());
}

}  // namespace

Result<std::uint32_t> FindFilesetId(engine::Engine& engine, const std::string& name) {
  return FILER_TRY(FindFileset(engine, name)).id;
}

const std::vector<ControlMethod>& FilesetMethods() {
  const auto name = RequiredText("name", kNameBytesMax);
  const auto new_name = RequiredText("new_name", kNameBytesMax);
  const auto fileset = OptionalText("fileset", kNameBytesMax);
  static const std::vector<ControlMethod> kMethods = {
      {"fileset.list", {}, ListFilesets, kMayWait},
      {"fileset.create", {name}, CreateFileset, kMayWait},
      {"fileset.rename", {name, new_name}, RenameFileset, kMayWait},
      {"fileset.delete", {name}, DeleteFileset, kMayWait},
      {"snapshot.list", {fileset}, ListSnapshots, kMayWait},
      {"snapshot.create", {name, fileset}, CreateSnapshot, kMayWait},
      {"snapshot.rename", {name, new_name, fileset}, RenameSnapshot, kMayWait},
      {"snapshot.hold", {name, fileset}, HoldSnapshot, kMayWait},
      {"snapshot.release", {name, fileset}, ReleaseSnapshot, kMayWait},
      {"snapshot.delete", {name, fileset}, DeleteSnapshot, kMayWait},
      {"snapshot.rollback", {name, fileset, OptionalFlag("must_delete_newer")}, RollBack, kMayWait},
      {"snapshot.clone", {name, new_name, fileset}, CloneSnapshot, kMayWait},
  };
  return kMethods;
}

}  // namespace filer::control
