// cell.h: what `filer bench engine` asks of every file system. Values; no threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "workloads/bench/subject.h"

namespace filer::bench {

enum class FileWorkload : std::uint8_t {
  kCreate,           // a new file with 4 KiB in it, durable with its name
  kLookup,           // a name that is in memory
  kStat,             // the same, with its attributes
  kReaddir,          // a whole directory that is in memory
  kReadSequential,   // 1 MiB each, from the volume
  kReadRandom,       // 4 KiB each, from the volume
  kWriteSequential,  // 1 MiB each, durable every 16 MiB
  kOverwrite,        // 4 KiB of an existing file, durable
  kUnlink,           // durable
  kRename,           // in one directory, durable
  kMixed,            // 6 random reads, 4 stats, 3 overwrites, 1 create, 1 rename, 1 unlink of 16
};
std::string_view FileWorkloadName(FileWorkload workload);
std::vector<std::string> FileWorkloadNames();
// Payload of one operation; 0 where it has none.
std::uint32_t PayloadBytes(FileWorkload workload);
bool NeedsNames(FileWorkload workload);
bool NeedsData(FileWorkload workload);

struct FileCell {
  FileWorkload workload = FileWorkload::kCreate;
  std::uint32_t threads = 1;  // callers, each with one operation at a time
  friend bool operator==(const FileCell&, const FileCell&) = default;
};
std::string FileCellName(const FileCell& cell);  // "create, 8 threads"

// 11 workloads at 1, 2, 8 and 32 threads, or those of them that carry the targets.
std::vector<FileCell> FullFileCells();
std::vector<FileCell> QuickFileCells();

inline constexpr std::string_view kNearmetalBridge = "nearmetal-bridge";
inline constexpr std::string_view kNearmetalDirect = "nearmetal-direct";
inline constexpr std::string_view kXfs = "xfs";
inline constexpr std::string_view kExt4 = "ext4";
// No file system: transfers of 1 MiB to the backend, in this process. What sequential ones are held
// against.
inline constexpr std::string_view kBackendAlone = "backend";
std::vector<std::string> FileSubjectNames();
bool SubjectTakes(std::string_view subject, const FileCell& cell);

}  // namespace filer::bench
