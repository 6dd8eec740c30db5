#include "workloads/bench/engine/engine_runner.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "host-bridge/initiator/initiator.h"
#include "workloads/bench/engine/loop_mount.h"
#include "workloads/bench/machine.h"
#include "workloads/bench/scratch.h"

namespace filer::bench {
namespace {

constexpr std::uint64_t kVolumeBytes = 1ULL << 30;
constexpr std::uint64_t kQuickVolumeBytes = 512ULL << 20;
constexpr FixtureSizes kSizes = {.names = 10'000, .data_bytes = 256ULL << 20};
constexpr FixtureSizes kQuickSizes = {.names = 4'000, .data_bytes = 128ULL << 20};
// The region of metadata is a share of the volume.
constexpr std::uint64_t kProbeBytes = 32ULL << 30;
constexpr std::uint64_t kQuickProbeBytes = 8ULL << 30;
constexpr std::uint32_t kInodes = 1'000'000;
constexpr std::uint32_t kQuickInodes = 200'000;

bool IsOfKernel(std::string_view subject) { return subject == kXfs || subject == kExt4; }

class EngineBench {
 public:
  EngineBench(const EngineBenchOptions& options, const OnProgress& on_progress,
              const SubjectPlace& place, std::string file_folder)
      : options_(options),
        on_progress_(on_progress),
        place_(place),
        file_folder_(std::move(file_folder)) {
    results_.cores = place.cores;
    results_.repetitions = options.repetitions;
    results_.seconds_per_run = options.seconds;
    results_.is_quick = options.is_quick;
    results_.sizes = options.is_quick ? kQuickSizes : kSizes;
    results_.volume_bytes = options.is_quick ? kQuickVolumeBytes : kVolumeBytes;
  }

  Result<EngineResults> Run() {
    results_.machine = DescribeMachine();
    results_.skipped.push_back(
        {"nearmetal", "all", "snapshot under load: the engine has no snapshots yet"});
    for (const BackendKind backend : options_.backends) FILER_TRY(RunBackend(backend));
    FILER_TRY(RunProbes());
    return std::move(results_);
  }

 private:
  using Subjects = std::vector<std::unique_ptr<FileSubject>>;

  Result<void> RunBackend(BackendKind backend) {
    Subjects subjects;
    for (const std::string& name : options_.subjects) {
      if (!IsAsked(name)) continue;
      FILER_TRY(Report(fmt::format("{}: making {}", BackendName(backend), name)));
      auto subject = Start(name, backend);
      if (subject.has_value()) {
        const std::string remark = subject.assume_value()->Remark();
        if (!remark.empty()) {
          results_.remarks.push_back(fmt::format("{}, {}: {}", name, BackendName(backend), remark));
        }
        subjects.push_back(std::move(subject).value());
        continue;
      }
      if (!IsOfKernel(name)) {
        return Error(subject.error().code(), fmt::format("{}, {}: {}", name, BackendName(backend),
                                                         subject.error().message()));
      }
      results_.skipped.push_back(
          {name, std::string(BackendName(backend)), subject.error().message()});
    }
    for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
      for (std::size_t i = 0; i < options_.cells.size(); ++i) {
        FILER_TRY(RunCell(subjects, backend, options_.cells[i],
                          static_cast<std::size_t>(repetition) + i));
      }
    }
    return Ok();
  }

  bool IsAsked(const std::string& subject) const {
    return std::any_of(options_.cells.begin(), options_.cells.end(),
                       [&](const FileCell& cell) { return SubjectTakes(subject, cell); });
  }

  Result<std::unique_ptr<FileSubject>> Start(const std::string& name, BackendKind backend) {
    FileSubjectSpec spec;
    spec.name = name;
    spec.place = &place_;
    spec.sizes = results_.sizes;
    spec.backing.backend = backend;
    spec.backing.size_bytes =
        name == kBackendAlone ? results_.sizes.data_bytes : results_.volume_bytes;
    if (backend == BackendKind::kFile || IsOfKernel(name)) {
      if (IsOfKernel(name)) FILER_TRY(CanMount());
      const std::string& folder =
          backend == BackendKind::kFile ? file_folder_ : place_.memory_folder;
      spec.backing.file_path = fmt::format("{}/{}.img", folder, name);
      FILER_TRY(WriteVolume(spec.backing.file_path, spec.backing.size_bytes));
    }
    auto subject = FILER_TRY(StartFileSubject(spec));
    FILER_TRY(subject->MakeFixture(options_.cells));
    return subject;
  }

  // `turn` says who is first.
  Result<void> RunCell(const Subjects& subjects, BackendKind backend, const FileCell& cell,
                       std::size_t turn) {
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      FileSubject& subject = *subjects[(i + turn) % subjects.size()];
      if (!SubjectTakes(subject.Name(), cell)) continue;
      FILER_TRY(Report(
          fmt::format("{}, {}, {}", BackendName(backend), FileCellName(cell), subject.Name())));
      RunOf(subject.Name(), backend, cell)
          .samples.push_back(FILER_TRY(subject.Run(cell, options_.seconds, ++serial_)));
      ++runs_done_;
    }
    return Ok();
  }

  // On a volume of their own: large, in another process, so that its memory is not taken for that
  // of inodes.
  Result<void> RunProbes() {
    if (!options_.wants_checkpoints && !options_.wants_inodes) return Ok();
    if (!Wants(kNearmetalBridge)) {
      Skip(kNearmetalBridge,
           "creates during checkpoints, memory of inodes, recovery: not asked for");
      return Ok();
    }
    FileSubjectSpec spec;
    spec.name = kNearmetalBridge;
    spec.place = &place_;
    spec.backing.backend = BackendKind::kMemory;
    spec.backing.size_bytes = options_.is_quick ? kQuickProbeBytes : kProbeBytes;
    spec.is_filled = false;
    const auto subject = FILER_TRY(StartFileSubject(spec));
    if (options_.wants_checkpoints) {
      FILER_TRY(Report("creates while checkpoints are written"));
      results_.checkpoints =
          FILER_TRY(MeasureCheckpoints(*subject, options_.seconds, options_.repetitions, serial_));
    }
    if (!options_.wants_inodes) return Ok();
    FILER_TRY(Report("memory of inodes, recovery"));
    auto probe = MeasureInodes(*subject->Ours(), options_.is_quick ? kQuickInodes : kInodes);
    if (probe.has_error()) {
      Skip(kNearmetalBridge, "memory of inodes, recovery: " + probe.error().message());
    } else {
      results_.inodes = std::move(probe).value();
      if (results_.inodes->bytes_per_inode <= 0) {
        Skip(kNearmetalBridge, "memory of inodes: they do not all stay in memory");
      }
    }
    return Ok();
  }

  bool Wants(std::string_view subject) const {
    return std::find(options_.subjects.begin(), options_.subjects.end(), subject) !=
           options_.subjects.end();
  }

  void Skip(std::string_view subject, std::string reason) {
    results_.skipped.push_back({std::string(subject), "memory", std::move(reason)});
  }

  EngineRun& RunOf(std::string_view subject, BackendKind backend, const FileCell& cell) {
    for (EngineRun& run : results_.runs) {
      if (run.subject == subject && run.backend == backend && run.cell == cell) return run;
    }
    results_.runs.push_back({std::string(subject), backend, cell, {}});
    return results_.runs.back();
  }

  Result<void> CanMount() {
    if (!mounts_) mounts_ = EnterOwnMountNamespace();
    return *mounts_;
  }

  Result<void> Report(const std::string& what) {
    const double share = static_cast<double>(runs_done_) /
                         static_cast<double>(std::max<std::size_t>(RunCount(options_), 1));
    if (!on_progress_(share, what)) return Error(Errc::kCancelled, "stopped before the end");
    return Ok();
  }

  const EngineBenchOptions& options_;
  const OnProgress& on_progress_;
  const SubjectPlace place_;
  const std::string file_folder_;
  EngineResults results_;
  std::optional<Result<void>> mounts_;
  std::size_t runs_done_ = 0;
  std::uint64_t serial_ = 0;
};

}  // namespace

std::size_t RunCount(const EngineBenchOptions& options) {
  std::size_t count = 0;
  for (const std::string& subject : options.subjects) {
    count += static_cast<std::size_t>(
        std::count_if(options.cells.begin(), options.cells.end(),
                      [&](const FileCell& cell) { return SubjectTakes(subject, cell); }));
  }
  return count * options.backends.size() * static_cast<std::size_t>(options.repetitions);
}

Result<EngineResults> RunEngineBench(const EngineBenchOptions& options,
                                     const OnProgress& on_progress) {
  TickClock::Get();
  SubjectPlace place;
  place.cores = FILER_TRY(ChooseCores());
  place.programs = options.programs;
  FILER_TRY(PinThread(place.cores.load));
  const ScratchFolder files = FILER_TRY(ScratchFolder::Make(options.folder));
  std::error_code error;
  const ScratchFolder sockets =
      FILER_TRY(ScratchFolder::Make(std::filesystem::temp_directory_path(error)));
  place.folder = sockets.path();
  std::optional<ScratchFolder> memory;
  if (options.backends.front() == BackendKind::kMemory) {
    memory.emplace(FILER_TRY(ScratchFolder::Make("/dev/shm")));
    place.memory_folder = memory->path();
  }
  return EngineBench(options, on_progress, place, files.path()).Run();
}

}  // namespace filer::bench
