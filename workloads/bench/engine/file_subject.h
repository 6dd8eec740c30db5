// file_subject.h: one file system under test with all that is below it, started and mounted.
// Blocking; one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "workloads/bench/engine/caller.h"
#include "workloads/bench/engine/engine_files.h"
#include "workloads/bench/results.h"

namespace filer::bench {

struct FileSubjectSpec {
  std::string name;
  Backing backing;  // file_path: also for kMemory, in a folder on tmpfs (xfs, ext4)
  const SubjectPlace* place = nullptr;
  FixtureSizes sizes;
  bool is_filled = true;  // memory: all of it is touched beforehand
};

class FileSubject {
 public:
  virtual ~FileSubject() = default;
  virtual std::string_view Name() const = 0;
  virtual Result<void> MakeFixture(const std::vector<FileCell>& cells) = 0;
  // One repetition. `serial` never repeats.
  virtual Result<Sample> Run(const FileCell& cell, double seconds, std::uint64_t serial) = 0;
  // nullptr: not one of ours.
  virtual EngineFiles* Ours() { return nullptr; }
  // What is worth knowing about how it is set up; may be empty.
  virtual std::string Remark() const { return ""; }
};

// Pool of the engine's device and, together with DPDK's own needs, memory of the bridge's front
// end.
inline constexpr std::uint64_t kPoolBytes = 256ULL << 20;

// Errors: those of the parts, with what is missing.
Result<std::unique_ptr<FileSubject>> StartFileSubject(const FileSubjectSpec& spec);
// Processor time of the kernel's own threads, which work for whoever uses a loop device or writes
// directly; others' work is in it, too. Nanoseconds, since the machine's start.
std::int64_t KernelThreadsCpuNs();

}  // namespace filer::bench
