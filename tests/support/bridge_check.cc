// bridge_check.cc: the program filer-bridge-check: writes and verifies a seeded pattern over any
// device string, many requests in flight, and prints counters as one line of JSON. Exit codes: 0
// the data is right, 1 it is not or a request failed, 2 usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/device/open_device.h"
#include "host-bridge/initiator/pci_bind.h"

namespace filer {
namespace {

using engine::BlockDevice;
using engine::BlockOperation;
using engine::BlockRequest;
using engine::BufferRef;

struct Options {
  std::string device;
  std::uint64_t seed = 1;
  bool writes = false;
  bool verifies = false;
  bool unbinds = false;
  std::uint64_t bytes = 0;  // 0: all
  std::uint32_t block_bytes = 65536;
  std::uint32_t depth = 32;
  std::uint32_t passes = 1;
  engine::OpenDeviceOptions open;
};

// Any 8 bytes of the pattern depend on the seed and their place.
std::uint64_t WordAt(std::uint64_t seed, std::uint64_t offset) {
  std::uint64_t x = offset + seed * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

struct Io {
  BufferRef buffer;
  iovec segment = {};
  BlockRequest request;
};

class Checker {
 public:
  Checker(BlockDevice& device, const Options& options) : device_(device), options_(options) {}

  Result<void> Run(BlockOperation operation, std::uint64_t bytes) {
    std::vector<Io> ios(options_.depth);
    for (Io& io : ios) io.buffer = FILER_TRY(device_.Pool().Allocate(options_.block_bytes));
    std::uint64_t next = 0;
    std::uint32_t in_flight = 0;
    while (next < bytes || in_flight > 0) {
      bool made_progress = false;
      for (Io& io : ios) {
        if (io.request.is_done.load(std::memory_order_acquire)) {
          FILER_TRY(Finish(io, operation));
          --in_flight;
          made_progress = true;
        }
        if (io.segment.iov_len == 0 && next < bytes) {
          FILER_TRY(Start(io, operation, next,
                          std::min<std::uint64_t>(options_.block_bytes, bytes - next)));
          next += io.segment.iov_len;
          ++in_flight;
        }
      }
      if (device_.Poll(options_.depth) == 0 && !made_progress) device_.Relax();
    }
    return Ok();
  }

 private:
  Result<void> Start(Io& io, BlockOperation operation, std::uint64_t offset, std::uint64_t length) {
    io.segment = {io.buffer.data(), length};
    io.request.operation = operation;
    io.request.offset_bytes = offset;
    io.request.length_bytes = length;
    io.request.segments = {&io.segment, 1};
    io.request.is_done.store(false, std::memory_order_relaxed);
    if (operation == BlockOperation::kWrite) {
      for (std::uint64_t i = 0; i < length; i += 8) {
        const std::uint64_t word = WordAt(options_.seed, offset + i);
        std::memcpy(io.buffer.data() + i, &word, 8);
      }
    }
    for (;;) {
      auto submitted = device_.Submit(io.request);
      if (submitted.has_value()) return Ok();
      if (!(submitted.error() == Errc::kWouldBlock)) return submitted;
      if (device_.Poll(options_.depth) == 0) device_.Relax();
    }
  }

  Result<void> Finish(Io& io, BlockOperation operation) {
    io.request.is_done.store(false, std::memory_order_relaxed);
    const std::uint64_t offset = io.request.offset_bytes;
    const std::uint64_t length = std::exchange(io.segment.iov_len, 0);
    if (!io.request.is_ok) {
      return Error(io.request.status,
                   fmt::format("request at byte {}: {}", offset, ErrcText(io.request.status)));
    }
    if (operation == BlockOperation::kWrite) return Ok();
    for (std::uint64_t i = 0; i < length; i += 8) {
      std::uint64_t word;
      std::memcpy(&word, io.buffer.data() + i, 8);
      if (word != WordAt(options_.seed, offset + i)) {
        return Error(Errc::kCorrupt, fmt::format("wrong data at byte {}", offset + i));
      }
    }
    return Ok();
  }

  BlockDevice& device_;
  const Options& options_;
};

Result<nlohmann::json> Measure(BlockDevice& device, const Options& options,
                               BlockOperation operation, std::uint64_t bytes) {
  Checker checker(device, options);
  const std::int64_t begin_ns = SystemClock().MonotonicNs();
  for (std::uint32_t pass = 0; pass < options.passes; ++pass) {
    FILER_TRY(checker.Run(operation, bytes));
  }
  if (operation == BlockOperation::kWrite) FILER_TRY(engine::FlushBlocking(device));
  const double seconds = static_cast<double>(SystemClock().MonotonicNs() - begin_ns) / 1e9;
  const auto requests =
      static_cast<double>((bytes + options.block_bytes - 1) / options.block_bytes * options.passes);
  return nlohmann::json{{"bytes", bytes * options.passes},
                        {"seconds", seconds},
                        {"iops", requests / seconds},
                        {"mb_per_s", static_cast<double>(bytes * options.passes) / 1e6 / seconds}};
}

Result<nlohmann::json> Check(const Options& options) {
  if (options.unbinds && options.device.starts_with("pci:")) {
    FILER_TRY(bridge::UnbindKernelDriver(options.device.substr(4)));
  }
  const auto opened = FILER_TRY(engine::OpenVolumeDevice(options.device, options.open));
  const auto info = opened.device->Info();
  const std::uint64_t bytes =
      options.bytes == 0 ? info.size_bytes : std::min(options.bytes, info.size_bytes);
  nlohmann::json report = {{"device", options.device},
                           {"transport", opened.transport},
                           {"size_bytes", info.size_bytes},
                           {"seed", options.seed}};
  if (options.writes) {
    report["write"] = FILER_TRY(Measure(*opened.device, options, BlockOperation::kWrite, bytes));
  }
  if (options.verifies) {
    report["verify"] = FILER_TRY(Measure(*opened.device, options, BlockOperation::kRead, bytes));
  }
  const auto counters = opened.counters();
  report["counters"] = {{"requests", counters.requests},
                        {"read_bytes", counters.read_bytes},
                        {"write_bytes", counters.write_bytes},
                        {"doorbells", counters.doorbells},
                        {"interrupts", counters.interrupts}};
  return report;
}

}  // namespace
}  // namespace filer

int main(int argc, char** argv) {
  filer::Options options;
  CLI::App app("Writes and verifies a seeded pattern over a device.");
  app.add_option("device", options.device, "vhost_user:PATH, pci:ADDRESS or file:PATH")->required();
  auto* write = app.add_option("--write-pattern", options.seed, "write the pattern of this seed");
  auto* verify = app.add_option("--verify", options.seed, "read and compare with this seed");
  app.add_option("--bytes", options.bytes, "from the start of the volume; default: all of it");
  app.add_option("--block-bytes", options.block_bytes, "per request")
      ->check(CLI::Range(4096, 1 << 20));
  app.add_option("--depth", options.depth, "requests in flight")->check(CLI::Range(1, 1024));
  app.add_option("--passes", options.passes)->check(CLI::Range(1, 1'000'000));
  app.add_option("--queues", options.open.queue_count)->check(CLI::Range(1, 64));
  std::uint64_t memory_mb = 128;
  app.add_option("--memory-mb", memory_mb);
  app.add_flag("--huge-pages", options.open.use_huge_pages);
  app.add_flag("--unbind", options.unbinds, "take the PCI function from the kernel's driver first");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.writes = write->count() != 0;
  options.verifies = verify->count() != 0;
  options.block_bytes = options.block_bytes / 4096 * 4096;
  options.open.memory_bytes = memory_mb << 20;
  filer::InitLog("filer-bridge-check", "info");
  auto report = filer::Check(options);
  if (report.has_error()) {
    fmt::print(stderr, "filer-bridge-check: {}\n", report.error().message());
    return report.error() == filer::Errc::kUsage ? 2 : 1;
  }
  fmt::print("{}\n", report.value().dump());
  return 0;
}
