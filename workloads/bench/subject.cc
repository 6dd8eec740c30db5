#include "workloads/bench/subject.h"

#include <algorithm>

namespace filer::bench {
namespace {

bool Contains(const auto& values, const auto& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

bool SubjectKind::Takes(BackendKind backend) const {
  return is_timed && (backends.empty() || Contains(backends, backend));
}
bool SubjectKind::Takes(const Cell& cell) const { return cells.empty() || Contains(cells, cell); }

const std::vector<SubjectKind>& SubjectKinds() {
  static const std::vector<SubjectKind> kinds = {
      {kBridge, "#c0392b", {}, {}, true},
      {kBridgePacked, "#e67e22", {BackendKind::kNull, BackendKind::kMemory}, {}, true},
      {kDirect, "#7f8c8d", {}, {}, true},
      {kStorageDaemon, "#2980b9", {}, {}, false},
      {kRteVhost, "#27ae60", {}, {}, false},
      {kFio, "#8e44ad", {BackendKind::kFile}, {}, false},
      // What it costs to have one core for both ends; the null backend shows it undiluted.
      {kBridgeSharedCore,
       "#d35400",
       {BackendKind::kNull},
       {{Workload::kRead, 4096, 1}, {Workload::kRead, 4096, 32}},
       true},
      {kLinuxDriver, "#000000", {}, {}, false, false},
  };
  return kinds;
}

const SubjectKind* FindSubjectKind(std::string_view name) {
  const auto& kinds = SubjectKinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(),
                                  [&](const SubjectKind& kind) { return kind.name == name; });
  return found == kinds.end() ? nullptr : &*found;
}

std::string_view BackendName(BackendKind backend) {
  switch (backend) {
    case BackendKind::kNull:
      return "null";
    case BackendKind::kMemory:
      return "memory";
    case BackendKind::kFile:
      break;
  }
  return "file";
}

std::string_view WorkloadName(Workload workload) {
  switch (workload) {
    case Workload::kRead:
      return "read";
    case Workload::kWrite:
      return "write";
    case Workload::kMixed:
      break;
  }
  return "mixed";
}

}  // namespace filer::bench
