// exit-load: what a guest does while its exits are counted from outside.
//
//   exit-load pci ADDRESS DEPTH READS   our driver on a PCI function
//   exit-load kernel DEVICE READS       the kernel's driver, by O_DIRECT, one read at a time
//
// Says "ready" on stdout when all is set up and warm, then does what each line on stdin says:
//   work   READS reads of 4 KiB, or as many as two seconds allow; answers "done READS DOORBELLS"
//   idle   spins for as long as the last work took; answers "done 0 0"
//   end    ends
// so that whoever counts can look before and after, with nothing else in between. "pci" writes
// stamps first; every read of "pci" and "kernel" is held to them. Exit codes: 0, 1 failed, 2 usage.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "host-bridge/initiator/initiator.h"

namespace filer::test {
namespace {

using bridge::Disk;
using bridge::DiskCompletion;
using bridge::DiskOperation;
using bridge::DiskQueue;
using bridge::DiskRequest;

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint64_t kBlockCount = 256;  // that are read, in turn
constexpr std::uint32_t kDepthMax = 64;
constexpr std::uint64_t kArenaBytes = 1ULL << 20;
static_assert(kDepthMax * kBlockBytes <= kArenaBytes);
constexpr std::uint64_t kMemoryBytes = 32ULL << 20;

std::uint64_t StampOf(std::uint64_t block) { return (block + 1) * 0x9e3779b97f4a7c15ULL; }

void WriteStamp(std::span<std::byte> buffer, std::uint64_t stamp) {
  std::memcpy(buffer.data(), &stamp, sizeof stamp);
  std::memcpy(buffer.data() + kBlockBytes - sizeof stamp, &stamp, sizeof stamp);
}

// Also wipes it, so that a later read that brings nothing is seen.
Result<void> TakeStamp(std::span<std::byte> buffer, std::uint64_t block) {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::memcpy(&first, buffer.data(), sizeof first);
  std::memcpy(&last, buffer.data() + kBlockBytes - sizeof last, sizeof last);
  WriteStamp(buffer, 0);
  if (first == StampOf(block) && last == StampOf(block)) return Ok();
  return Error(Errc::kCorrupt, fmt::format("block {} does not hold its stamp", block));
}

// One queue of a disk, worked by this thread. Loops here do not pause: for that an emulated
// processor takes the lock that all of its machine shares.
class PolledReader {
 public:
  static constexpr std::uint64_t kChunkReads = 1000;

  PolledReader(Disk& disk, std::uint32_t depth) : queue_(disk.Queue(0)), slots_(depth) {
    for (std::uint32_t i = 0; i < depth; ++i) {
      slots_[i].segment = {disk.Arena().data() + i * kBlockBytes, kBlockBytes};
    }
  }

  Result<void> WriteStamps() {
    for (std::uint64_t block = 0; block < kBlockCount; ++block) {
      WriteStamp(Buffer(0), StampOf(block));
      FILER_TRY(Prepare(0, DiskOperation::kWrite, block));
      queue_.Publish();
      while (FILER_TRY(Reap()).empty()) {
      }
    }
    WriteStamp(Buffer(0), 0);
    return Ok();
  }

  Result<void> Read(std::uint64_t count) {
    std::uint64_t begun = 0;
    for (; begun < std::min<std::uint64_t>(count, slots_.size()); ++begun) {
      FILER_TRY(Prepare(begun, DiskOperation::kRead, begun % kBlockCount));
    }
    queue_.Publish();
    for (std::uint64_t ended = 0; ended < count;) {
      const auto completions = FILER_TRY(Reap());
      for (const DiskCompletion& completion : completions) {
        FILER_TRY(TakeStamp(Buffer(completion.cookie), slots_[completion.cookie].block));
        if (begun == count) continue;
        FILER_TRY(Prepare(completion.cookie, DiskOperation::kRead, begun % kBlockCount));
        ++begun;
      }
      ended += completions.size();
      queue_.Publish();
    }
    return Ok();
  }

 private:
  struct Slot {
    iovec segment = {};
    std::uint64_t block = 0;
  };

  std::span<std::byte> Buffer(std::uint64_t slot) {
    return {static_cast<std::byte*>(slots_[slot].segment.iov_base), kBlockBytes};
  }

  Result<void> Prepare(std::uint64_t slot, DiskOperation operation, std::uint64_t block) {
    slots_[slot].block = block;
    return queue_.Prepare(DiskRequest{.operation = operation,
                                      .offset_bytes = block * kBlockBytes,
                                      .length_bytes = kBlockBytes,
                                      .segments = {&slots_[slot].segment, 1},
                                      .cookie = slot});
  }

  Result<std::span<const DiskCompletion>> Reap() {
    const std::size_t count = queue_.Poll(completions_);
    for (std::size_t i = 0; i < count; ++i) {
      if (completions_[i].is_ok) continue;
      return Error(completions_[i].status,
                   fmt::format("a request failed: {}", ErrcText(completions_[i].status)));
    }
    return std::span<const DiskCompletion>(completions_, count);
  }

  DiskQueue& queue_;
  std::vector<Slot> slots_;
  DiskCompletion completions_[kDepthMax] = {};
};

class KernelReader {
 public:
  static constexpr std::uint64_t kChunkReads = 100;

  explicit KernelReader(UniqueFd fd) : fd_(std::move(fd)) {}

  Result<void> Read(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t block = i % kBlockCount;
      const auto offset = static_cast<off_t>(block * kBlockBytes);
      if (::pread(fd_.get(), buffer_, kBlockBytes, offset) != static_cast<ssize_t>(kBlockBytes)) {
        return Error::System(errno, "read");
      }
      FILER_TRY(TakeStamp(buffer_, block));
    }
    return Ok();
  }

 private:
  UniqueFd fd_;
  alignas(kBlockBytes) std::byte buffer_[kBlockBytes];
};

// Byte by byte: what follows the line belongs to the shell that reads the same input.
Result<std::string> NextLine() {
  std::string line;
  for (;;) {
    char got = 0;
    if (::read(STDIN_FILENO, &got, 1) != 1) return Error(Errc::kIo, "nobody says what to do");
    if (got == '\n') return line;
    line += got;
  }
}

void Say(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

// The clock is the time stamp counter, because reading another one could be an exit.
class Worker {
 public:
  explicit Worker(std::uint64_t reads) : reads_(reads) {
    const std::int64_t begin_ns = SystemClock().MonotonicNs();
    const std::uint64_t begin_ticks = __rdtsc();
    while (SystemClock().MonotonicNs() - begin_ns < kCalibrationNs) {
    }
    ticks_max_ = (__rdtsc() - begin_ticks) * (kWorkNsMax / kCalibrationNs);
  }

  // `doorbells` answers how many there were so far.
  Result<void> Run(auto& reader, auto doorbells) {
    FILER_TRY(reader.Read(reader.kChunkReads));  // warm: no page is new, no cache cold
    Say("ready");
    for (;;) {
      const std::string line = FILER_TRY(NextLine());
      if (line == "end") return Ok();
      const std::uint64_t doorbells_before = doorbells();
      const std::uint64_t done = line == "work" ? FILER_TRY(Work(reader)) : Idle();
      Say(fmt::format("done {} {}", done, doorbells() - doorbells_before));
    }
  }

 private:
  static constexpr std::int64_t kCalibrationNs = 100'000'000;
  static constexpr std::int64_t kWorkNsMax = 2'000'000'000;

  Result<std::uint64_t> Work(auto& reader) {
    const std::uint64_t begin_ticks = __rdtsc();
    std::uint64_t done = 0;
    while (done < reads_ && __rdtsc() - begin_ticks < ticks_max_) {
      FILER_TRY(reader.Read(reader.kChunkReads));
      done += reader.kChunkReads;
    }
    last_ticks_ = __rdtsc() - begin_ticks;
    return done;
  }

  std::uint64_t Idle() const {
    const std::uint64_t begin_ticks = __rdtsc();
    while (__rdtsc() - begin_ticks < last_ticks_) {
    }
    return 0;
  }

  std::uint64_t reads_;
  std::uint64_t ticks_max_ = 0;
  std::uint64_t last_ticks_ = 0;
};

Result<void> LoadPci(const std::string& address, std::uint32_t depth, std::uint64_t reads) {
  FILER_TRY(bridge::InitEal(
      {.memory_bytes = kMemoryBytes, .use_huge_pages = true, .process_name = "exit-load"}));
  bridge::DiskOptions options;
  options.arena_bytes = kArenaBytes;
  const auto disk = FILER_TRY(bridge::AttachPci(address, options));
  if (disk->Info().size_bytes < kBlockCount * kBlockBytes) {
    return Error(Errc::kTooSmall, "the disk is too small");
  }
  PolledReader reader(*disk, depth);
  FILER_TRY(reader.WriteStamps());
  return Worker(reads).Run(reader, [&disk] { return disk->Counters().doorbells; });
}

Result<void> LoadKernel(const std::string& device, std::uint64_t reads) {
  UniqueFd fd(::open(device.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.is_open()) return Error::System(errno, "open " + device);
  KernelReader reader(std::move(fd));
  return Worker(reads).Run(reader, [] { return 0; });
}

Result<std::uint64_t> Number(const std::string& text, std::uint64_t max) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && value > 0 &&
      value <= max) {
    return value;
  }
  return Error(Errc::kUsage, fmt::format("'{}' is no number from 1 to {}", text, max));
}

Result<void> Run(const std::vector<std::string>& words) {
  if (words.size() == 4 && words[0] == "pci") {
    const auto depth = FILER_TRY(Number(words[2], kDepthMax));
    return LoadPci(words[1], static_cast<std::uint32_t>(depth),
                   FILER_TRY(Number(words[3], UINT64_MAX)));
  }
  if (words.size() == 3 && words[0] == "kernel") {
    return LoadKernel(words[1], FILER_TRY(Number(words[2], UINT64_MAX)));
  }
  return Error(Errc::kUsage, "pci ADDRESS DEPTH READS, or kernel DEVICE READS");
}

}  // namespace
}  // namespace filer::test

int main(int count, char** words) {
  filer::InitLog("exit-load", "warn");
  const auto done = filer::test::Run({words + 1, words + count});
  if (done) return 0;
  // On stdout: that is where somebody waits.
  filer::test::Say("failed: " + done.error().message());
  return done.error() == filer::Errc::kUsage ? 2 : 1;
}
