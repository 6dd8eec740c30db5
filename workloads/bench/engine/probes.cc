#include "workloads/bench/engine/probes.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"

namespace filer::bench {
namespace {

constexpr FileCell kCell = {FileWorkload::kCreate, 8};
constexpr std::uint32_t kNeverMs = 3'600'000;
constexpr std::uint32_t kMakers = 32;
constexpr std::uint32_t kMemoryInodes = 100'000;  // fewer than the engine keeps

engine::MountOptions OptionsWithInterval(std::uint32_t interval_ms) {
  engine::MountOptions options = EngineFiles::DefaultOptions();
  options.checkpoint_interval_ms = interval_ms;
  return options;
}

// Bytes of this process that no file and no other process has part in.
std::uint64_t PrivateBytes() {
  ::malloc_trim(0);
  const auto status = ReadWholeFile("/proc/self/status");
  if (!status.has_value()) return 0;
  const std::string& text = status.assume_value();
  auto at = text.find("RssAnon:");
  if (at == std::string::npos) return 0;
  at = text.find_first_of("0123456789", at);
  std::uint64_t kib = 0;
  std::from_chars(text.data() + at, text.data() + text.size(), kib);
  return kib * 1024;
}

std::string InodeName(std::uint32_t index) { return fmt::format("inode-{:08}", index); }

// [from, to) in each directory, all directories at once.
Result<void> MakeInodes(EngineFiles& files, const std::vector<FileNode>& directories,
                        std::uint32_t from, std::uint32_t to) {
  std::vector<Result<void>> results(directories.size(), Ok());
  std::vector<std::thread> makers;
  for (std::size_t maker = 0; maker < directories.size(); ++maker) {
    makers.emplace_back([&, maker] {
      for (std::uint32_t i = from; i < to && results[maker].has_value(); ++i) {
        results[maker] = files.Touch(directories[maker], InodeName(i));
      }
    });
  }
  for (std::thread& maker : makers) maker.join();
  for (Result<void>& result : results) FILER_TRY(std::move(result));
  return Ok();
}

Result<void> LookUpInodes(EngineFiles& files, const std::vector<FileNode>& directories,
                          std::uint32_t from, std::uint32_t to) {
  for (const FileNode directory : directories) {
    for (std::uint32_t i = from; i < to; ++i) FILER_TRY(files.Stat(directory, InodeName(i)));
  }
  return Ok();
}

// In two halves: when the second takes far less than the first, they do not all stay, and the
// figure would be that of a limit.
Result<void> MeasureMemory(EngineFiles& files, const std::vector<FileNode>& directories,
                           std::uint32_t count_each, InodeProbe& probe) {
  FILER_TRY(files.Remount(OptionsWithInterval(kNeverMs)));  // caches are empty
  const std::uint64_t none = PrivateBytes();
  FILER_TRY(LookUpInodes(files, directories, 0, count_each / 2));
  const std::uint64_t half = PrivateBytes();
  FILER_TRY(LookUpInodes(files, directories, count_each / 2, count_each));
  const std::uint64_t all = PrivateBytes();
  probe.cached_inodes = std::uint64_t{count_each} * directories.size();
  if (none < half && all >= half + (half - none) / 2) {
    probe.bytes_per_inode =
        static_cast<double>(all - none) / static_cast<double>(probe.cached_inodes);
  }
  return Ok();
}

}  // namespace

Result<CheckpointProbe> MeasureCheckpoints(FileSubject& subject, double seconds, int repetitions,
                                           std::uint64_t& serial) {
  EngineFiles& files = *subject.Ours();
  CheckpointProbe probe;
  std::vector<Sample> busy;
  std::vector<Sample> quiet;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    for (const bool is_quiet : {true, false}) {
      FILER_TRY(files.Remount(OptionsWithInterval(is_quiet ? kNeverMs : 1)));
      const std::uint64_t before = files.Counters().checkpoints;
      (is_quiet ? quiet : busy).push_back(FILER_TRY(subject.Run(kCell, seconds, ++serial)));
      (is_quiet ? probe.quiet_checkpoints : probe.checkpoints) +=
          files.Counters().checkpoints - before;
    }
  }
  FILER_TRY(files.Remount(EngineFiles::DefaultOptions()));
  probe.p99_us = SpreadOf(busy, &Sample::p99_us).median;
  probe.p99_quiet_us = SpreadOf(quiet, &Sample::p99_us).median;
  return probe;
}

Result<InodeProbe> MeasureInodes(EngineFiles& files, std::uint32_t count) {
  // Nothing but the log itself asks for a checkpoint: it is as full as it gets.
  const engine::MountOptions options = OptionsWithInterval(kNeverMs);
  FILER_TRY(files.Remount(options));
  const std::uint64_t inodes_before = files.Counters().inodes;
  std::vector<FileNode> directories;
  for (std::uint32_t i = 0; i < kMakers; ++i) {
    directories.push_back(FILER_TRY(files.MakeDirectory(fmt::format("inodes-{}", i))));
  }
  // With no more than these on the volume: nodes of the tree hold nothing else.
  const std::uint32_t count_each = count / kMakers;
  const std::uint32_t cached_each = std::min(kMemoryInodes / kMakers, count_each);
  InodeProbe probe;
  FILER_TRY(MakeInodes(files, directories, 0, cached_each));
  FILER_TRY(MeasureMemory(files, directories, cached_each, probe));
  FILER_TRY(MakeInodes(files, directories, cached_each, count_each));
  probe.inodes = files.Counters().inodes - inodes_before;
  probe.recovery_s = FILER_TRY(files.RemountKilled(options));
  probe.recovered_groups = files.Counters().recovered_groups;
  return probe;
}

}  // namespace filer::bench
