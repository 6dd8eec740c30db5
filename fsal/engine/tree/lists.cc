#include "fsal/engine/tree/lists.h"

#include <cstring>

#include "base/assert.h"
#include "base/endian.h"

namespace filer::engine {
namespace {

struct DiskRun {
  le64 first;
  le32 count;
  le64 birth_epoch;
};
static_assert(DiskStruct<DiskRun> && sizeof(DiskRun) == 20);
static_assert(sizeof(DiskRun) * kRunsPerListValue <= 2048);  // inline in its leaf

constexpr std::uint64_t kCursors = UINT64_MAX;
constexpr std::size_t kListBytes = 8;

template <typename Integer>
void Append(std::string& key, Integer value) {
  for (std::size_t byte = sizeof(value); byte-- > 0;) {
    key.push_back(static_cast<char>(value >> (8 * byte)));
  }
}

}  // namespace

std::string ListKey(std::uint64_t list, std::uint64_t epoch, std::uint32_t number) {
  std::string key;
  Append(key, list);
  Append(key, epoch);
  Append(key, number);
  return key;
}

std::string StartOfList(std::uint64_t list) {
  std::string key;
  Append(key, list);
  return key;
}

std::string EndOfList(std::uint64_t list) { return StartOfList(list + 1); }

std::string MovedListKey(std::string_view key, std::uint64_t list) {
  FILER_ASSERT(key.size() >= kListBytes);
  return StartOfList(list).append(key.substr(kListBytes));
}

std::string EncodeRuns(std::span<const DroppedRun> runs) {
  std::string value;
  value.reserve(runs.size() * sizeof(DiskRun));
  for (const auto& run : runs) {
    FILER_ASSERT(run.run.count <= UINT32_MAX);
    DiskRun disk{};
    disk.first = run.run.first;
    disk.count = static_cast<std::uint32_t>(run.run.count);
    disk.birth_epoch = run.birth_epoch;
    value.append(reinterpret_cast<const char*>(&disk), sizeof(disk));
  }
  return value;
}

Result<std::vector<DroppedRun>> DecodeRuns(std::string_view value) {
  if (value.size() % sizeof(DiskRun) != 0) {
    return Error(Errc::kCorrupt, "a list of dropped blocks does not decode; run volume check");
  }
  std::vector<DroppedRun> runs;
  runs.reserve(value.size() / sizeof(DiskRun));
  for (; !value.empty(); value.remove_prefix(sizeof(DiskRun))) {
    DiskRun disk;
    std::memcpy(&disk, value.data(), sizeof(disk));
    runs.push_back({{disk.first, disk.count}, disk.birth_epoch});
  }
  return runs;
}

std::string CursorKey(TreeId tree) {
  std::string key;
  Append(key, kCursors);
  Append(key, tree);
  return key;
}

bool IsCursorKey(std::string_view key) { return key.starts_with(StartOfList(kCursors)); }

}  // namespace filer::engine
