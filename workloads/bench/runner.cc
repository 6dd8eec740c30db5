#include "workloads/bench/runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "host-bridge/initiator/initiator.h"
#include "workloads/bench/idle.h"
#include "workloads/bench/linux_driver.h"
#include "workloads/bench/machine.h"
#include "workloads/bench/ping_pong.h"
#include "workloads/bench/scratch.h"

namespace filer::bench {
namespace {

constexpr std::uint64_t kNullBytes = 1ULL << 30;
// Memory volumes stay within the last-level cache of common processors: what is measured is the
// bridge, and a transfer that stands for DMA, not the machine's DRAM.
constexpr std::uint64_t kMemoryBytes = 8ULL << 20;
constexpr std::uint64_t kFileBytes = 128ULL << 20;

std::uint64_t SizeOf(BackendKind backend) {
  switch (backend) {
    case BackendKind::kNull:
      return kNullBytes;
    case BackendKind::kMemory:
      return kMemoryBytes;
    case BackendKind::kFile:
      break;
  }
  return kFileBytes;
}

class Bench {
 public:
  Bench(const BenchOptions& options, const OnProgress& on_progress, const SubjectPlace& place,
        std::string file_folder)
      : options_(options),
        on_progress_(on_progress),
        place_(place),
        file_folder_(std::move(file_folder)) {
    results_.cores = place.cores;
    results_.repetitions = options.repetitions;
    results_.seconds_per_run = options.seconds;
    results_.is_quick = options.is_quick;
    for (const BackendKind backend : options.backends) {
      results_.volume_bytes[backend] = SizeOf(backend);
    }
  }

  Result<Results> Run() {
    auto results = RunAll();
    // ^C reaches the targets, too, and what they leave unanswered then is no failure of theirs. Nor
    // is it a success that the stop came during the last row.
    if (IsStopped(options_.stop) || (results.has_error() && !on_progress_(1, "stopping"))) {
      return StoppedError();
    }
    return results;
  }

 private:
  Result<Results> RunAll() {
    results_.machine = DescribeMachine();
    for (const BackendKind backend : options_.backends) FILER_TRY(RunBackend(backend));
    if (Wants(kBridge)) {
      FILER_TRY(Report("the bridge while nothing happens"));
      results_.idle = FILER_TRY(MeasureIdle(place_, options_.is_quick ? 2 : 5));
    }
    if (Wants(kLinuxDriver)) FILER_TRY(RunLinuxDriver());
    return std::move(results_);
  }

  using Subjects = std::vector<std::unique_ptr<Subject>>;

  bool Wants(std::string_view subject) const {
    return std::find(options_.subjects.begin(), options_.subjects.end(), subject) !=
           options_.subjects.end();
  }

  Result<void> RunLinuxDriver() {
    FILER_TRY(Report("Linux's virtio-blk driver in a guest"));
    auto rows = MeasureLinuxDriver({place_, !options_.is_quick});
    if (rows.has_error()) {
      results_.skipped.push_back({std::string(kLinuxDriver), "null", rows.error().message()});
    } else {
      results_.linux_driver = std::move(rows).value();
    }
    return Ok();
  }

  Result<void> RunBackend(BackendKind backend) {
    FILER_TRY(Report(fmt::format("starting the subjects of backend {}", BackendName(backend))));
    Subjects subjects;
    for (const std::string& name : options_.subjects) {
      const SubjectKind& kind = *FindSubjectKind(name);
      if (!kind.Takes(backend)) continue;
      auto subject = Start(name, backend);
      if (subject.has_value()) {
        subjects.push_back(std::move(subject).value());
        continue;
      }
      if (kind.is_required) return subject.error();
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

  Result<std::unique_ptr<Subject>> Start(const std::string& name, BackendKind backend) {
    Backing backing;
    backing.backend = backend;
    backing.size_bytes = SizeOf(backend);
    if (backend == BackendKind::kFile) {
      // fio takes no lock, so it can work on the very file of the bridge, which rests meanwhile.
      const std::string_view owner = name == kFio ? kBridge : std::string_view(name);
      backing.file_path = fmt::format("{}/{}.img", file_folder_, owner);
      if (::access(backing.file_path.c_str(), F_OK) != 0) {
        FILER_TRY(WriteVolume(backing.file_path, backing.size_bytes));
      }
    }
    if (backend == BackendKind::kMemory && name == kStorageDaemon) {
      FILER_TRY(WriteVolume(place_.memory_folder + "/memory", backing.size_bytes));
    }
    auto subject = FILER_TRY(Make(name, backing));
    FILER_TRY(subject->Verify());
    return subject;
  }

  Result<std::unique_ptr<Subject>> Make(const std::string& name, const Backing& backing) const {
    if (name == kDirect) return MakeDirect(backing);
    if (name == kFio) return MakeFio(backing, place_);
    return MakeServed(FindSubjectKind(name)->name, backing, place_);
  }

  // `turn` says who is first.
  Result<void> RunCell(const Subjects& subjects, BackendKind backend, const Cell& cell,
                       std::size_t turn) {
    const PingPong ground = FILER_TRY(MeasurePingPong(place_.cores));
    results_.ping_pong_ns.push_back(ground.median_ns);
    results_.ping_pong_ticks.Merge(ground.single_ticks);
    LoadSpec spec;
    spec.workload = cell.workload;
    spec.block_bytes = cell.block_bytes;
    spec.depth = cell.depth;
    spec.range_bytes = SizeOf(backend);
    spec.seconds = options_.seconds;
    spec.warm_up_seconds = options_.seconds / 5;
    spec.seed = turn + 1;
    spec.stop = options_.stop;
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      Subject& subject = *subjects[(i + turn) % subjects.size()];
      if (!FindSubjectKind(subject.Name())->Takes(cell)) continue;
      FILER_TRY(
          Report(fmt::format("{}, {}, {}", BackendName(backend), CellName(cell), subject.Name())));
      const Measured measured = FILER_TRY(subject.Run(spec));
      RunOf(subject.Name(), backend, cell)
          .samples.push_back(SampleOf(measured, cell, ground.median_ns));
      ++runs_done_;
    }
    return Ok();
  }

  // In the order of options_.subjects, whoever came first.
  filer::bench::Run& RunOf(std::string_view subject, BackendKind backend, const Cell& cell) {
    for (filer::bench::Run& run : results_.runs) {
      if (run.subject == subject && run.backend == backend && run.cell == cell) return run;
    }
    results_.runs.push_back({std::string(subject), backend, cell, {}});
    return results_.runs.back();
  }

  Result<void> Report(const std::string& what) {
    const double share = static_cast<double>(runs_done_) /
                         static_cast<double>(std::max<std::size_t>(RunCount(options_), 1));
    if (!on_progress_(share, what) || IsStopped(options_.stop)) return StoppedError();
    return Ok();
  }

  const BenchOptions& options_;
  const OnProgress& on_progress_;
  const SubjectPlace place_;
  const std::string file_folder_;
  Results results_;
  std::size_t runs_done_ = 0;
};

}  // namespace

std::vector<std::string> SubjectNames() {
  std::vector<std::string> names;
  for (const SubjectKind& kind : SubjectKinds()) names.emplace_back(kind.name);
  return names;
}

std::size_t RunCount(const BenchOptions& options) {
  std::size_t count = 0;
  for (const std::string& name : options.subjects) {
    const SubjectKind& kind = *FindSubjectKind(name);
    const auto backends = std::count_if(options.backends.begin(), options.backends.end(),
                                        [&](BackendKind one) { return kind.Takes(one); });
    const auto cells = std::count_if(options.cells.begin(), options.cells.end(),
                                     [&](const Cell& one) { return kind.Takes(one); });
    count += static_cast<std::size_t>(backends * cells * options.repetitions);
  }
  return count;
}

std::vector<Cell> FullCells() {
  std::vector<Cell> cells;
  for (const std::uint32_t block_bytes : {4096U, 131072U}) {
    for (const Workload workload : {Workload::kRead, Workload::kWrite, Workload::kMixed}) {
      for (const std::uint32_t depth : {1U, 8U, 32U, 128U}) {
        cells.push_back({workload, block_bytes, depth});
      }
    }
  }
  return cells;
}

std::vector<Cell> QuickCells() {
  return {{Workload::kRead, 4096, 1},    {Workload::kRead, 4096, 8},
          {Workload::kRead, 4096, 32},   {Workload::kRead, 4096, 128},
          {Workload::kWrite, 4096, 1},   {Workload::kWrite, 4096, 32},
          {Workload::kMixed, 4096, 32},  {Workload::kRead, 131072, 1},
          {Workload::kRead, 131072, 32}, {Workload::kWrite, 131072, 32}};
}

Result<Results> RunBench(const BenchOptions& options, const OnProgress& on_progress) {
  TickClock::Get();
  SubjectPlace place;
  place.cores = options.cores ? *options.cores : FILER_TRY(ChooseCores());
  place.programs = options.programs;
  place.stop = options.stop;
  FILER_TRY(PinThread(place.cores.load));
  const ScratchFolder files = FILER_TRY(ScratchFolder::Make(options.folder));
  const ScratchFolder sockets = FILER_TRY(ScratchFolder::Make("/tmp"));
  const ScratchFolder memory = FILER_TRY(ScratchFolder::Make("/dev/shm"));
  place.folder = sockets.path();
  place.memory_folder = memory.path();
  bridge::EalOptions eal;
  eal.memory_bytes = 96ULL << 20;
  eal.process_name = "filer-bench";
  if (const auto started = bridge::InitEal(eal);
      started.has_error() && !(started.error() == Errc::kExists)) {
    return started.error();
  }
  return Bench(options, on_progress, place, files.path()).Run();
}

}  // namespace filer::bench
