#include "workloads/bench/engine/cell.h"

#include <fmt/format.h>

#include <array>

namespace filer::bench {
namespace {

struct WorkloadRow {
  FileWorkload workload;
  std::string_view name;
  std::uint32_t payload_bytes;
  bool needs_names, needs_data;
};
constexpr std::array<WorkloadRow, 11> kRows = {{
    {FileWorkload::kCreate, "create", 4096, false, false},
    {FileWorkload::kLookup, "lookup", 0, true, false},
    {FileWorkload::kStat, "stat", 0, true, false},
    {FileWorkload::kReaddir, "readdir", 0, true, false},
    {FileWorkload::kReadSequential, "read-sequential", 1 << 20, false, true},
    {FileWorkload::kReadRandom, "read-random", 4096, false, true},
    {FileWorkload::kWriteSequential, "write-sequential", 1 << 20, false, true},
    {FileWorkload::kOverwrite, "overwrite", 4096, false, true},
    {FileWorkload::kUnlink, "unlink", 0, false, false},
    {FileWorkload::kRename, "rename", 0, false, false},
    {FileWorkload::kMixed, "mixed", 0, true, true},
}};

const WorkloadRow& RowOf(FileWorkload workload) {
  return kRows[static_cast<std::size_t>(workload)];
}

}  // namespace

std::string_view FileWorkloadName(FileWorkload workload) { return RowOf(workload).name; }
std::uint32_t PayloadBytes(FileWorkload workload) { return RowOf(workload).payload_bytes; }
bool NeedsNames(FileWorkload workload) { return RowOf(workload).needs_names; }
bool NeedsData(FileWorkload workload) { return RowOf(workload).needs_data; }

std::vector<std::string> FileWorkloadNames() {
  std::vector<std::string> names;
  for (const WorkloadRow& row : kRows) names.emplace_back(row.name);
  return names;
}

std::string FileCellName(const FileCell& cell) {
  return fmt::format("{}, {} thread{}", FileWorkloadName(cell.workload), cell.threads,
                     cell.threads == 1 ? "" : "s");
}

std::vector<FileCell> FullFileCells() {
  std::vector<FileCell> cells;
  for (const WorkloadRow& row : kRows) {
    for (const std::uint32_t threads : {1U, 2U, 8U, 32U}) cells.push_back({row.workload, threads});
  }
  return cells;
}

std::vector<FileCell> QuickFileCells() {
  return {{FileWorkload::kCreate, 1},
          {FileWorkload::kCreate, 8},
          {FileWorkload::kCreate, 32},
          {FileWorkload::kLookup, 1},
          {FileWorkload::kStat, 1},
          {FileWorkload::kReaddir, 1},
          {FileWorkload::kReadSequential, 8},
          {FileWorkload::kReadRandom, 8},
          {FileWorkload::kWriteSequential, 8},
          {FileWorkload::kOverwrite, 8},
          {FileWorkload::kUnlink, 8},
          {FileWorkload::kRename, 8},
          {FileWorkload::kMixed, 8}};
}

std::vector<std::string> FileSubjectNames() {
  return {std::string(kNearmetalBridge), std::string(kNearmetalDirect), std::string(kXfs),
          std::string(kExt4), std::string(kBackendAlone)};
}

bool SubjectTakes(std::string_view subject, const FileCell& cell) {
  return subject != kBackendAlone || cell.workload == FileWorkload::kReadSequential ||
         cell.workload == FileWorkload::kWriteSequential;
}

}  // namespace filer::bench
