// served_subject.cc: targets in processes of their own, all driven by our initiator.
#include <fmt/format.h>
#include <sched.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/json_rpc.h"
#include "workloads/bench/peer.h"
#include "workloads/bench/subject.h"

namespace filer::bench {
namespace {

using bridge::Disk;
using bridge::DiskCompletion;
using bridge::DiskOperation;
using bridge::DiskQueue;
using bridge::DiskRequest;

class DiskPort {
 public:
  // `is_core_shared`: the core is left to the other end after so many looks without result.
  DiskPort(Disk& disk, const LoadSpec& spec, pid_t server, bool is_core_shared)
      : disk_(disk),
        queue_(disk.Queue(0)),
        server_(server),
        block_bytes_(spec.block_bytes),
        empty_polls_max_(is_core_shared ? kSharedPolls : UINT32_MAX) {
    for (std::uint32_t slot = 0; slot < spec.depth; ++slot) {
      segments_.push_back({disk.Arena().data() + std::size_t{slot} * block_bytes_, block_bytes_});
    }
  }
  bool Submit(std::uint32_t slot, bool is_write, std::uint64_t offset_bytes) {
    const DiskRequest request{is_write ? DiskOperation::kWrite : DiskOperation::kRead,
                              offset_bytes,
                              0,
                              {&segments_[slot], 1},
                              slot};
    return queue_.Prepare(request).has_value();
  }
  void Publish() { queue_.Publish(); }
  std::size_t Poll(std::span<DiskCompletion> completions) {
    const std::size_t count = queue_.Poll(completions);
    empty_polls_ = count > 0 ? 0 : empty_polls_ + 1;
    if (empty_polls_ > empty_polls_max_) {
      empty_polls_ = 0;
      ::sched_yield();
    }
    return count;
  }
  void Sample(LoadSample& sample) {
    const bridge::DiskCounters counters = disk_.Counters();
    sample = {ThreadCpuNs(), ProcessCpuNs(server_), counters.doorbells, counters.interrupts};
  }

 private:
  static constexpr std::uint32_t kSharedPolls = 200;  // as the poller
  Disk& disk_;
  DiskQueue& queue_;
  pid_t server_;
  std::uint32_t block_bytes_;
  std::uint32_t empty_polls_max_;
  std::uint32_t empty_polls_ = 0;
  std::vector<iovec> segments_;
};

struct ServerCounters {
  std::uint64_t requests = 0;
  std::uint64_t copied_bytes = 0;
};

class ServedSubject final : public Subject {
 public:
  ServedSubject(std::string_view name, const Backing& backing, Peer peer)
      : name_(name), backing_(backing), peer_(std::move(peer)) {}

  std::string_view Name() const override { return name_; }

  Result<Measured> Run(const LoadSpec& spec) override {
    const std::uint64_t bytes = std::uint64_t{spec.depth} * spec.block_bytes;
    if (bytes > kArenaBytes) return Error(Errc::kInvalidArgument, "depth times block is too much");
    const ServerCounters before = FILER_TRY(ReadCounters());
    Measured measured;
    {
      const auto disk = FILER_TRY(AttachPeer(peer_));
      std::memset(disk->Arena().data(), 0x5a, bytes);
      DiskPort port(*disk, spec, peer_.server.pid(), name_ == kBridgeSharedCore);
      auto load = LoadLoop<DiskPort, DiskCompletion>(port, spec).Run();
      if (load.has_error()) return Explain(load.error());
      measured.load = std::move(load).value();
    }
    const ServerCounters after = FILER_TRY(ReadCounters());
    if (after.requests > before.requests) {
      measured.copied_bytes_per_io = static_cast<double>(after.copied_bytes - before.copied_bytes) /
                                     static_cast<double>(after.requests - before.requests);
    }
    return measured;
  }

  Result<void> Verify() override {
    if (backing_.backend == BackendKind::kNull) return Ok();
    constexpr std::uint32_t kBytes = 128 << 10;
    const auto disk = FILER_TRY(AttachPeer(peer_));
    std::byte* written = disk->Arena().data();
    std::byte* read = written + kBytes;
    for (std::uint32_t i = 0; i < kBytes; ++i) written[i] = static_cast<std::byte>(i * 131 >> 3);
    std::memset(read, 0, kBytes);
    const std::uint64_t offset = RoundToBlock(backing_.size_bytes / 2);
    FILER_TRY(Transfer(*disk, DiskOperation::kWrite, {written, kBytes}, offset));
    FILER_TRY(Transfer(*disk, DiskOperation::kRead, {read, kBytes}, offset));
    if (std::memcmp(written, read, kBytes) == 0) return Ok();
    return Error(Errc::kCorrupt, fmt::format("{}, {}: reads back other data than were written",
                                             name_, BackendName(backing_.backend)));
  }

 private:
  static std::uint64_t RoundToBlock(std::uint64_t bytes) { return bytes / 4096 * 4096; }

  Error Explain(const Error& error) const {
    return {error.code(),
            fmt::format("{}, {}: {} (its last words: {})", name_, BackendName(backing_.backend),
                        error.message(), peer_.server.LastWords())};
  }

  Result<void> Transfer(Disk& disk, DiskOperation operation, const iovec& segment,
                        std::uint64_t offset_bytes) {
    DiskQueue& queue = disk.Queue(0);
    FILER_TRY(queue.Prepare({operation, offset_bytes, 0, {&segment, 1}, 1}));
    queue.Publish();
    const TickClock& clock = TickClock::Get();
    const std::uint64_t deadline = clock.Now() + clock.FromSeconds(10);
    DiskCompletion completion{};
    while (queue.Poll({&completion, 1}) == 0) {
      if (clock.Now() > deadline) return Explain(Error(Errc::kTimedOut, "no answer for 10 s"));
    }
    if (!completion.is_ok) return Explain(Error(completion.status));
    return Ok();
  }

  // Zeroes for a server without a control socket. A server that is still starting refuses: it is
  // asked again, ten seconds long.
  Result<ServerCounters> ReadCounters() const {
    if (peer_.control.empty()) return ServerCounters{};
    auto client = FILER_TRY(RpcClient::Connect(peer_.control));
    for (int attempt = 0;; ++attempt) {
      const auto status = client.Call("status", Json::object(), std::chrono::seconds(5));
      if (status.has_value()) return CountersIn(status.assume_value());
      if (!(status.assume_error() == Errc::kBusy) || attempt == 1000) {
        return Explain(status.assume_error());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  static ServerCounters CountersIn(const Json& status) {
    const Json& counters = status.at("volumes").at(0).at("counters");
    return {counters.at("requests").get<std::uint64_t>(),
            counters.at("copied_bytes").get<std::uint64_t>()};
  }

  std::string_view name_;
  Backing backing_;
  Peer peer_;
};

}  // namespace

Result<std::unique_ptr<Subject>> MakeServed(std::string_view name, const Backing& backing,
                                            const SubjectPlace& place) {
  Peer peer = FILER_TRY(StartPeer(name, backing, place));
  return std::unique_ptr<Subject>(std::make_unique<ServedSubject>(name, backing, std::move(peer)));
}

}  // namespace filer::bench
