#include "fsal/engine-control/volume_path.h"

#include <algorithm>
#include <vector>

namespace filer::control {
namespace {

// "/a//b/" -> "a", "b". Errors: kInvalidName for ".", ".." and what is not absolute.
Result<std::vector<std::string>> SplitPath(const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return Error(Errc::kInvalidName, "'" + path + "': a path inside the volume starts with /");
  }
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    std::string part = path.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty()) continue;
    if (part == "." || part == "..") {
      return Error(Errc::kInvalidName,
                   "'" + path + "': . and .. have no place in an export's path");
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

Result<engine::Attributes> FindDirectory(engine::Engine& engine, const std::string& path) {
  engine::Attributes node = FILER_TRY(engine.GetAttributes(engine.Root()));
  std::string walked;
  for (const std::string& part : FILER_TRY(SplitPath(path))) {
    walked += "/" + part;
    const auto found = engine.Lookup(node.id, part);
    if (!found.has_value()) {
      return Error(found.assume_error().code(), "folder " + walked + " in volume " +
                                                    engine.VolumeName() + ": " +
                                                    found.assume_error().message());
    }
    node = found.assume_value();
    if (node.kind != engine::NodeKind::kDirectory) {
      return Error(Errc::kNotDirectory, walked + " in volume " + engine.VolumeName() +
                                            " is no folder, so it cannot be exported");
    }
  }
  return node;
}

Result<Json> MakeDirectory(engine::Engine& engine, const Params& params) {
  const auto parts = FILER_TRY(SplitPath(params.Text("path")));
  if (parts.empty()) return Json{{"created", false}};
  engine::SetDoor(0);
  engine::NodeId directory = engine.Root();
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    const auto found = FILER_TRY(engine.Lookup(directory, parts[i]));
    directory = found.id;
  }
  engine::CreateOptions options;
  options.kind = engine::NodeKind::kDirectory;
  options.attributes.mode = static_cast<std::uint32_t>(params.Count("mode", 0755));
  engine::Caller root;
  root.is_trusted = true;
  const auto created = engine.Create(root, directory, parts.back(), options);
  if (created.has_value()) return Json{{"created", true}};
  if (!(created.assume_error() == Errc::kExists)) return created.assume_error();
  const auto existing = FILER_TRY(engine.Lookup(directory, parts.back()));
  if (existing.kind != engine::NodeKind::kDirectory) {
    return Error(Errc::kNotDirectory, params.Text("path") + " is no folder");
  }
  return Json{{"created", false}};
}

}  // namespace filer::control
