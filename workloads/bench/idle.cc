#include "workloads/bench/idle.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "workloads/bench/peer.h"

namespace filer::bench {
namespace {

constexpr int kFirstRequests = 20;
// The target sleeps after 300 us without work; a pause is far more than that on any machine.
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr std::uint32_t kBytes = 4096;

// One read to its end. Returns how long it took.
Result<double> ReadOnce(bridge::Disk& disk, const std::atomic<bool>* stop) {
  const TickClock& clock = TickClock::Get();
  bridge::DiskQueue& queue = disk.Queue(0);
  const iovec segment{disk.Arena().data(), kBytes};
  const std::uint64_t begin = clock.Now();
  FILER_TRY(queue.Prepare({bridge::DiskOperation::kRead, 0, 0, {&segment, 1}, 1}));
  queue.Publish();
  bridge::DiskCompletion completion{};
  while (queue.Poll({&completion, 1}) == 0) {
    if (IsStopped(stop)) return StoppedError();
    if (clock.Now() - begin > clock.FromSeconds(10)) {
      return Error(Errc::kTimedOut, "after a pause: no answer for 10 s");
    }
  }
  if (!completion.is_ok) return Error(Errc::kIo, "after a pause: the request failed");
  return clock.ToNs(static_cast<double>(clock.Now() - begin)) / 1e3;
}

// In few pieces: to wake up costs what is measured here.
Result<void> Rest(std::chrono::duration<double> time, const std::atomic<bool>* stop) {
  constexpr std::chrono::duration<double> kLook(0.5);
  const auto end = std::chrono::steady_clock::now() + time;
  while (true) {
    if (IsStopped(stop)) return StoppedError();
    const std::chrono::duration<double> left = end - std::chrono::steady_clock::now();
    if (left.count() <= 0) return Ok();
    std::this_thread::sleep_for(std::min(left, kLook));
  }
}

}  // namespace

Result<Idle> MeasureIdle(const SubjectPlace& place, double seconds) {
  Backing backing;
  backing.backend = BackendKind::kMemory;
  backing.size_bytes = 1 << 20;
  const Peer peer = FILER_TRY(StartPeer(kBridge, backing, place));
  const auto disk = FILER_TRY(AttachPeer(peer));
  for (int i = 0; i < kFirstRequests; ++i) FILER_TRY(ReadOnce(*disk, place.stop));
  std::this_thread::sleep_for(kPause);

  Idle idle;
  const auto begin = std::chrono::steady_clock::now();
  const std::int64_t ours_ns = ProcessCpuNs(::getpid());
  const std::int64_t theirs_ns = ProcessCpuNs(peer.server.pid());
  FILER_TRY(Rest(std::chrono::duration<double>(seconds), place.stop));
  const double ns =
      std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
  idle.target_cpu_percent =
      100 * static_cast<double>(ProcessCpuNs(peer.server.pid()) - theirs_ns) / ns;
  idle.cpu_percent =
      idle.target_cpu_percent + 100 * static_cast<double>(ProcessCpuNs(::getpid()) - ours_ns) / ns;
  idle.seconds = ns / 1e9;
  for (int i = 0; i < kFirstRequests; ++i) {
    const std::uint64_t doorbells = disk->Counters().doorbells;
    const double us = FILER_TRY(ReadOnce(*disk, place.stop));
    idle.first_requests.push_back({disk->Counters().doorbells - doorbells, us});
    FILER_TRY(Rest(kPause, place.stop));
  }
  return idle;
}

}  // namespace filer::bench
