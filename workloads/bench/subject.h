// subject.h: what is measured: one way to reach one backend. Every subject is driven by the same
// loop (load.h) from the calling thread, which must be pinned. Blocking; one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "workloads/bench/load.h"
#include "workloads/bench/processor.h"

namespace filer::bench {

enum class BackendKind : std::uint8_t { kNull, kMemory, kFile };
std::string_view BackendName(BackendKind backend);
std::string_view WorkloadName(Workload workload);

// What is asked of a subject.
struct Cell {
  Workload workload = Workload::kRead;
  std::uint32_t block_bytes = 4096;
  std::uint32_t depth = 1;
  friend bool operator==(const Cell&, const Cell&) = default;
};

// Where a subject's volume lies, and how large it is.
struct Backing {
  BackendKind backend = BackendKind::kNull;
  std::uint64_t size_bytes = 0;
  std::string file_path;  // kFile: written through once, of its own; locked by its user
};

struct Measured {
  LoadResult load;
  // Copies by the CPU between guest memory and backend; nullopt where nobody counts them.
  std::optional<double> copied_bytes_per_io;
};

class Subject {
 public:
  virtual ~Subject() = default;
  virtual std::string_view Name() const = 0;
  // Writes a pattern and reads it back; a null backend has nothing to compare. Errors: kCorrupt,
  // and those of Run.
  virtual Result<void> Verify() = 0;
  virtual Result<Measured> Run(const LoadSpec& spec) = 0;
};

inline constexpr std::string_view kBridge = "bridge";
// The same on packed rings.
inline constexpr std::string_view kBridgePacked = "bridge-packed";
inline constexpr std::string_view kDirect = "direct";
inline constexpr std::string_view kStorageDaemon = "qemu-storage-daemon";
inline constexpr std::string_view kRteVhost = "rte-vhost";
inline constexpr std::string_view kFio = "fio";
// Both ends on the load's core: who finds nothing to do yields it.
inline constexpr std::string_view kBridgeSharedCore = "bridge-shared-core";
// The driver of a Linux guest in front of two targets; counted, not timed (linux_driver.h).
inline constexpr std::string_view kLinuxDriver = "linux-driver";

// A line of the table of all subjects (subject.cc).
struct SubjectKind {
  std::string_view name;
  std::string_view colour;            // in plots
  std::vector<BackendKind> backends;  // that it is measured with; empty: all
  std::vector<Cell> cells;            // that it is asked; empty: all
  bool is_required = false;           // else it is skipped, with the reason, where it cannot be had
  bool is_timed = true;               // else it is none of the subjects that are driven in turns

  bool Takes(BackendKind backend) const;
  bool Takes(const Cell& cell) const;
};
const std::vector<SubjectKind>& SubjectKinds();
// nullptr: there is no such subject.
const SubjectKind* FindSubjectKind(std::string_view name);

struct SubjectPlace {
  CorePair cores;
  std::string programs;       // folder of host-bridge and filer-rte-vhost-target
  std::string folder;         // for sockets and logs; exists
  std::string memory_folder;  // on tmpfs, for the one server that cannot make memory of its own
  const std::atomic<bool>* stop = nullptr;  // of BenchOptions
};

// The backend in this process, called through backend.h: what the bridge is compared with.
Result<std::unique_ptr<Subject>> MakeDirect(const Backing& backing);
// fio's io_uring engine on the file, on the calling thread's core. Nothing is written to the file
// but through its own runs. Errors: kNotFound when fio is not installed.
Result<std::unique_ptr<Subject>> MakeFio(const Backing& backing, const SubjectPlace& place);
// A target process on `place.cores.server` behind a vhost-user socket. InitEal must have run.
// Errors: those of Server::Start and AttachVhostUser.
Result<std::unique_ptr<Subject>> MakeServed(std::string_view name, const Backing& backing,
                                            const SubjectPlace& place);

}  // namespace filer::bench
