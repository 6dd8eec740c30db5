#include "host-bridge/target/poller.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/log.h"

namespace filer::bridge {
namespace {

constexpr std::uint32_t kSpinPolls = 200;      // empty rounds before the core is yielded
constexpr std::uint32_t kOwnSpinPolls = 2000;  // on a core of its own: before it relaxes
constexpr std::int64_t kEventsNs = 200'000;    // sockets are looked at this often under load
// The clock is read this often: at most every microsecond or so, and not once per request.
constexpr std::uint32_t kRoundsPerClock = 64;

}  // namespace

Poller::Poller(const PollerOptions& options, std::vector<std::unique_ptr<Volume>> volumes,
               WaitSet waits, UniqueFd wake)
    : options_(options),
      volumes_(std::move(volumes)),
      waits_(std::move(waits)),
      wake_(std::move(wake)) {}

Poller::~Poller() { Stop(); }

Result<std::unique_ptr<Poller>> Poller::Create(const PollerOptions& options,
                                               std::vector<std::unique_ptr<Volume>> volumes) {
  WaitSet waits = FILER_TRY(WaitSet::Create());
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.is_open()) return Error::System(errno, "eventfd");
  FILER_TRY(waits.Add(wake.get(), {WaitKind::kWake, 0, 0}));
  std::unique_ptr<Poller> poller(
      new Poller(options, std::move(volumes), std::move(waits), std::move(wake)));
  for (std::uint32_t i = 0; i < poller->volumes_.size(); ++i) {
    FILER_TRY(poller->volumes_[i]->Join(poller->waits_, i));
  }
  return poller;
}

Result<void> Poller::Start() {
  thread_ = std::thread([this] { Run(); });
  if (options_.cpu < 0) return Ok();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (options_.cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(options_.cpu), &cpus);
  const int failed = ::pthread_setaffinity_np(thread_.native_handle(), sizeof(cpus), &cpus);
  if (failed != 0) {
    return Error::System(failed,
                         fmt::format("--cpu {}: cannot run the poller there", options_.cpu));
  }
  return Ok();
}

void Poller::Stop() {
  if (!thread_.joinable()) return;
  is_stopping_.store(true, std::memory_order_release);  // pairs with Run
  Wake();
  thread_.join();
}

void Poller::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

// Spin, relax, sleep. A core that others need is yielded in between; one of its own (`cpu`) is not:
// a yield there gives it away for milliseconds to whoever strays in.
void Poller::Run() {
  ::pthread_setname_np(::pthread_self(), "poller");  // from outside it would go through /proc
  const bool has_own_core = options_.cpu >= 0;
  const std::int64_t idle_ns =
      options_.idle_us == 0 ? INT64_MAX : std::int64_t{options_.idle_us} * 1000;
  std::uint32_t empty_rounds = 0;
  std::uint32_t rounds = 0;
  std::int64_t worked_ns = SystemClock().MonotonicNs();  // when the clock last found work done
  std::int64_t events_ns = worked_ns;
  while (!is_stopping_.load(std::memory_order_acquire)) {  // pairs with Stop
    empty_rounds = Round() ? 0 : empty_rounds + 1;
    if (has_own_core) {
      if (empty_rounds > kOwnSpinPolls) __builtin_ia32_pause();
    } else if (empty_rounds > kSpinPolls) {
      ::sched_yield();
    }
    const bool has_yielded = !has_own_core && empty_rounds > kSpinPolls;
    if (++rounds % kRoundsPerClock != 0 && !has_yielded) continue;
    const std::int64_t now_ns = SystemClock().MonotonicNs();
    if (empty_rounds < kRoundsPerClock) worked_ns = now_ns;
    if (now_ns - events_ns >= kEventsNs) {
      events_ns = now_ns;
      if (TakeEvents(0)) worked_ns = now_ns;
    }
    if (now_ns - worked_ns < idle_ns) continue;
    worked_ns = now_ns;
    if (!ArmAndCheckIdle()) continue;
    counters_.sleeps.Add(1);
    TakeEvents(SleepMs());
    worked_ns = events_ns = SystemClock().MonotonicNs();
  }
  Drain();
}

bool Poller::Round() {
  bool did_work = false;
  for (const auto& volume : volumes_) did_work |= volume->Round();
  counters_.polls.Add(1);
  if (did_work) counters_.busy_polls.Add(1);
  return did_work;
}

bool Poller::ArmAndCheckIdle() {
  bool is_idle = true;
  for (const auto& volume : volumes_) {
    if (volume->session() != nullptr) is_idle &= volume->session()->ArmAndCheckIdle();
  }
  return is_idle;
}

int Poller::SleepMs() const {
  constexpr std::int64_t kNsPerMs = 1'000'000;
  int least_ms = -1;
  for (const auto& volume : volumes_) {
    const std::int64_t ns = volume->session() == nullptr ? 0 : volume->session()->HeldBackNs();
    if (ns <= 0) continue;
    const auto ms = static_cast<int>(std::min<std::int64_t>(ns / kNsPerMs + 1, 1000));
    least_ms = least_ms < 0 ? ms : std::min(least_ms, ms);
  }
  return least_ms;
}

bool Poller::VisitAll() {
  bool did_work = false;
  for (const auto& volume : volumes_) did_work |= volume->Visit();
  return did_work;
}

bool Poller::TakeEvents(int timeout_ms) {
  std::array<epoll_event, 64> events;
  const int count =
      ::epoll_wait(waits_.fd(), events.data(), static_cast<int>(events.size()), timeout_ms);
  bool did_work = false;
  for (int i = 0; i < count; ++i) {
    const WaitTag tag = WaitTag::Unpack(events[static_cast<std::size_t>(i)].data.u64);
    if (tag.volume_index >= volumes_.size()) continue;
    Volume& volume = *volumes_[tag.volume_index];
    switch (tag.kind) {
      case WaitKind::kListener:
        volume.Accept();
        did_work = true;
        break;
      case WaitKind::kKick:
        if (volume.session() != nullptr) volume.session()->CountKick(tag.queue_index);
        break;
      case WaitKind::kClosed:
        volume.OnClosed();
        break;
      case WaitKind::kWake: {
        std::uint64_t wakes = 0;
        [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &wakes, sizeof(wakes));
        did_work = true;  // there is a reason: no sleep before Run has looked for it
        break;
      }
      case WaitKind::kSession:  // visited below
      case WaitKind::kBackend:  // polled in the next round
        break;
    }
  }
  return VisitAll() || did_work;
}

void Poller::Drain() {
  for (const auto& volume : volumes_) {
    if (volume->session() != nullptr) volume->session()->End(Errc::kShuttingDown);
  }
  const auto has_session = [](const auto& volume) { return volume->session() != nullptr; };
  while (std::any_of(volumes_.begin(), volumes_.end(), has_session)) {
    if (!Round()) ::sched_yield();
    VisitAll();
  }
  for (const auto& volume : volumes_) {
    const auto flushed = volume->Flush();
    if (!flushed.has_value()) FILER_LOG_ERROR("{}", flushed.assume_error().message());
  }
}

}  // namespace filer::bridge
