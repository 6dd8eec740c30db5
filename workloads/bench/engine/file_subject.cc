#include "workloads/bench/engine/file_subject.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>

#include <charconv>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "fsal/engine/device/open_device.h"
#include "workloads/bench/engine/backend_device.h"
#include "workloads/bench/engine/crowd.h"
#include "workloads/bench/engine/kernel_files.h"
#include "workloads/bench/engine/loop_mount.h"
#include "workloads/bench/peer.h"

namespace filer::bench {
namespace {

// Of the callers and the file system's own threads: not of this one, which looks on.
std::int64_t OwnCpuNs() {
  timespec at{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
  return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec - ThreadCpuNs();
}

// What costs and what is counted, at one end of the window.
struct Totals {
  std::int64_t cpu_ns = 0, copied_bytes = -1;
  bridge::DiskCounters notifications;
};

class MountedSubject : public FileSubject {
 public:
  explicit MountedSubject(std::string name, std::vector<int> cores, FixtureSizes sizes)
      : name_(std::move(name)), cores_(std::move(cores)), sizes_(sizes) {}
  std::string_view Name() const override { return name_; }

  Result<void> MakeFixture(const std::vector<FileCell>& cells) override {
    fixture_ = FILER_TRY(Fixture::Make(Files(), cells, sizes_));
    return Ok();
  }

  Result<Sample> Run(const FileCell& cell, double seconds, std::uint64_t serial) override {
    Totals begin;
    Totals end;
    CrowdSpec spec;
    spec.cell = cell;
    spec.seconds = seconds;
    spec.cores = cores_;
    spec.serial = serial;
    spec.at_window = [&](bool is_end) { (is_end ? end : begin) = Now(); };
    auto crowd = RunCrowd(Files(), fixture_, spec);
    if (crowd.has_value()) return SampleOf(crowd.assume_value(), begin, end);
    return Error(crowd.assume_error().code(), fmt::format("{}, {}: {}", name_, FileCellName(cell),
                                                          crowd.assume_error().message()));
  }

 protected:
  virtual FileSystem& Files() = 0;
  virtual Totals Now() { return {OwnCpuNs() + KernelThreadsCpuNs(), Files().CopiedBytes(), {}}; }
  void CloseFixture() { fixture_.Close(Files()); }

 private:
  static Sample SampleOf(const CrowdResult& crowd, const Totals& begin, const Totals& end) {
    const auto operations = static_cast<double>(crowd.operations);
    const auto us = [&](double quantile) {
      return TickClock::Get().ToNs(crowd.latency_ticks.Quantile(quantile)) / 1e3;
    };
    Sample sample;
    sample.ios = crowd.operations;
    sample.iops = operations / std::max(crowd.seconds, 1e-9);
    sample.mb_per_s = static_cast<double>(crowd.bytes) / std::max(crowd.seconds, 1e-9) / 1e6;
    sample.p50_us = us(0.5);
    sample.p99_us = us(0.99);
    sample.p999_us = us(0.999);
    sample.cpu_us_per_op = static_cast<double>(end.cpu_ns - begin.cpu_ns) / 1e3 / operations;
    sample.kicks = end.notifications.doorbells - begin.notifications.doorbells;
    sample.interrupts = end.notifications.interrupts - begin.notifications.interrupts;
    sample.kicks_per_io = static_cast<double>(sample.kicks) / operations;
    sample.interrupts_per_io = static_cast<double>(sample.interrupts) / operations;
    if (begin.copied_bytes >= 0) {
      sample.copied_bytes_per_io =
          static_cast<double>(end.copied_bytes - begin.copied_bytes) / operations;
    }
    return sample;
  }

  const std::string name_;
  const std::vector<int> cores_;
  const FixtureSizes sizes_;
  Fixture fixture_;
};

class EngineSubject final : public MountedSubject {
 public:
  EngineSubject(const FileSubjectSpec& spec, std::optional<Peer> peer, engine::OpenedDevice device,
                std::unique_ptr<EngineFiles> files)
      : MountedSubject(spec.name, {spec.place->cores.load}, spec.sizes),
        peer_(std::move(peer)),
        device_(std::move(device)),
        files_(std::move(files)) {}
  EngineFiles* Ours() override { return files_.get(); }

 private:
  FileSystem& Files() override { return *files_; }
  Totals Now() override {
    Totals totals = MountedSubject::Now();
    if (!peer_) return totals;
    totals.cpu_ns += ProcessCpuNs(peer_->server.pid());
    totals.notifications = device_.counters();
    return totals;
  }

  std::optional<Peer> peer_;  // in the order in which they depend on each other
  engine::OpenedDevice device_;
  std::unique_ptr<EngineFiles> files_;
};

class KernelSubject final : public MountedSubject {
 public:
  KernelSubject(const FileSubjectSpec& spec, LoopMount mount, std::unique_ptr<FileSystem> files)
      : MountedSubject(spec.name, {spec.place->cores.load, spec.place->cores.server}, spec.sizes),
        mount_(std::move(mount)),
        files_(std::move(files)) {}
  ~KernelSubject() override { CloseFixture(); }
  std::string Remark() const override {
    return mount_.is_direct() ? "loop device with direct I/O"
                              : "loop device through the page cache";
  }

 private:
  FileSystem& Files() override { return *files_; }
  LoopMount mount_;
  std::unique_ptr<FileSystem> files_;
};

// The bridge benchmark's backend in this process, asked for 1 MiB at a time.
class BackendSubject final : public FileSubject {
 public:
  BackendSubject(std::unique_ptr<Subject> direct, const Backing& backing)
      : direct_(std::move(direct)),
        size_bytes_(backing.size_bytes),
        is_memory_(backing.backend == BackendKind::kMemory) {}
  std::string_view Name() const override { return kBackendAlone; }
  // Memory that was never written is one page of zeroes, which is read from the cache: every block
  // is written, some twenty times in the mean.
  Result<void> MakeFixture(const std::vector<FileCell>&) override {
    constexpr double kRounds = 20;
    if (!is_memory_) return Ok();
    for (double written = 0; written < kRounds * static_cast<double>(size_bytes_);) {
      const Sample sample = FILER_TRY(Run({FileWorkload::kWriteSequential, 8}, 0.05, ++rounds_));
      written += static_cast<double>(sample.ios) * PayloadBytes(FileWorkload::kWriteSequential);
    }
    return Ok();
  }
  Result<Sample> Run(const FileCell& cell, double seconds, std::uint64_t serial) override {
    const Cell asked = {
        cell.workload == FileWorkload::kReadSequential ? Workload::kRead : Workload::kWrite,
        PayloadBytes(cell.workload), cell.threads};
    LoadSpec spec;
    spec.workload = asked.workload;
    spec.block_bytes = asked.block_bytes;
    spec.depth = asked.depth;
    spec.range_bytes = size_bytes_;
    spec.seconds = seconds;
    spec.warm_up_seconds = seconds / 5;
    spec.seed = serial + 1;
    return SampleOf(FILER_TRY(direct_->Run(spec)), asked, 0);
  }

 private:
  std::unique_ptr<Subject> direct_;
  std::uint64_t size_bytes_;
  bool is_memory_;
  std::uint64_t rounds_ = 0;
};

// Every byte is written, as in the files of the others: memory that the machine has still to give
// is no part of what is measured.
Result<void> Fill(engine::BlockDevice& device) {
  const std::vector<std::byte> piece(1 << 20, std::byte{0x5a});
  for (std::uint64_t at = 0; at < device.Info().size_bytes; at += piece.size()) {
    FILER_TRY(engine::WriteBlocking(device, at, piece));
  }
  return Ok();
}

Result<std::unique_ptr<FileSubject>> StartEngine(const FileSubjectSpec& spec) {
  std::optional<Peer> peer;
  engine::OpenedDevice device;
  if (spec.name == kNearmetalBridge) {
    peer = FILER_TRY(StartPeer(kBridge, spec.backing, *spec.place));
    engine::OpenDeviceOptions options;
    options.memory_bytes = kPoolBytes;
    device = FILER_TRY(engine::OpenVolumeDevice("vhost_user:" + peer->socket, options));
  } else {
    auto backend = FILER_TRY(
        spec.backing.backend == BackendKind::kMemory
            ? bridge::OpenMemoryBackend(spec.backing.size_bytes)
            : bridge::OpenFileBackend({.path = spec.backing.file_path, .is_read_only = false}));
    device.device = FILER_TRY(MakeBackendDevice(std::move(backend), kPoolBytes));
  }
  if (spec.backing.backend == BackendKind::kMemory && spec.is_filled) {
    FILER_TRY(Fill(*device.device));
  }
  auto files = FILER_TRY(EngineFiles::Make(*device.device));
  return std::unique_ptr<FileSubject>(
      std::make_unique<EngineSubject>(spec, std::move(peer), std::move(device), std::move(files)));
}

Result<std::unique_ptr<FileSubject>> StartKernel(const FileSubjectSpec& spec) {
  const std::string mount_point =
      fmt::format("{}/{}-{}", spec.place->folder, spec.name, BackendName(spec.backing.backend));
  if (::mkdir(mount_point.c_str(), 0700) != 0) return Error::System(errno, mount_point);
  auto mount = FILER_TRY(
      LoopMount::Make(spec.name, spec.backing.file_path, mount_point, mount_point + ".log"));
  auto files = FILER_TRY(OpenKernelFiles(mount_point));
  return std::unique_ptr<FileSubject>(
      std::make_unique<KernelSubject>(spec, std::move(mount), std::move(files)));
}

}  // namespace

Result<std::unique_ptr<FileSubject>> StartFileSubject(const FileSubjectSpec& spec) {
  if (spec.name == kXfs || spec.name == kExt4) return StartKernel(spec);
  if (spec.name != kBackendAlone) return StartEngine(spec);
  return std::unique_ptr<FileSubject>(
      std::make_unique<BackendSubject>(FILER_TRY(MakeDirect(spec.backing)), spec.backing));
}

std::int64_t KernelThreadsCpuNs() {
  std::int64_t sum = 0;
  std::error_code error;
  const auto processes = std::filesystem::directory_iterator("/proc", error);
  for (auto at = begin(processes); !error && at != end(processes); at.increment(error)) {
    const std::string pid = at->path().filename();
    if (pid[0] < '1' || pid[0] > '9') continue;
    // Fields 3 and 4 behind the name in parentheses: state, parent. 2 is kthreadd.
    const auto stat = ReadWholeFile(at->path() / "stat");
    if (!stat.has_value()) continue;
    const auto name_end = stat.assume_value().rfind(')');
    if (name_end == std::string::npos || stat.assume_value().substr(name_end + 3, 3) != " 2 ") {
      continue;
    }
    const auto ran = ReadWholeFile(at->path() / "schedstat");
    if (!ran.has_value()) continue;
    std::int64_t ns = 0;
    const std::string& text = ran.assume_value();
    std::from_chars(text.data(), text.data() + text.size(), ns);
    sum += ns;
  }
  return sum;
}

}  // namespace filer::bench
