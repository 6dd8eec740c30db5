#include "host-bridge/target/poller.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

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

Poller::Poller(const PollerOptions& options, PollerGroupState& group, std::uint32_t index,
               WaitSet waits)
    : options_(options),
      group_(group),
      desk_(*group.desks[index]),
      waits_(std::move(waits)),
      borrowed_(waits_) {}

Result<std::unique_ptr<Poller>> Poller::Create(const PollerOptions& options,
                                               PollerGroupState& group, std::uint32_t index) {
  WaitSet waits = FILER_TRY(WaitSet::Create());
  FILER_TRY(waits.Add(group.desks[index]->wake_fd(), {WaitKind::kWake, 0, 0}));
  std::unique_ptr<Poller> poller(new Poller(options, group, index, std::move(waits)));
  const auto poller_count = static_cast<std::uint32_t>(group.desks.size());
  for (std::uint32_t i = index; i < group.volumes.size(); i += poller_count) {
    poller->volumes_.push_back(group.volumes[i].get());
    FILER_TRY(group.volumes[i]->Join(poller->waits_, poller->desk_, i, poller_count));
  }
  return poller;
}

void Poller::Start() {
  group_.serving_count.fetch_add(1, std::memory_order_relaxed);
  thread_ = std::thread([this] { Run(); });
}

Result<void> Poller::Pin() {
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

void Poller::Join() {
  if (thread_.joinable()) thread_.join();
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
  StartWindow(worked_ns);
  while (!is_stopping()) {
    if (desk_.has_notes()) TakeNotes();
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
    if (has_peers()) Balance(now_ns);
    if (now_ns - worked_ns < idle_ns) continue;
    worked_ns = now_ns;
    if (!ArmAndCheckIdle()) continue;
    counters_.sleeps.Add(1);
    desk_.SetBusyQueues(0);
    const bool had_events = TakeEvents(SleepMs());
    worked_ns = events_ns = SystemClock().MonotonicNs();
    // Nothing came for so long: what it runs for others rests as well at home. Balance would not
    // say so, because a poller that sleeps at once has no window.
    const bool has_rested = worked_ns - now_ns >= std::int64_t{options_.lent_idle_us} * 1000;
    if (!had_events && has_rested) borrowed_.GiveBackAll();
    StartWindow(worked_ns);
  }
  Drain();
}

bool Poller::Round() {
  bool did_work = false;
  for (Volume* volume : volumes_) did_work |= volume->Round();
  did_work |= borrowed_.Round();
  counters_.polls.Add(1);
  if (did_work) counters_.busy_polls.Add(1);
  return did_work;
}

bool Poller::ArmAndCheckIdle() {
  bool is_idle = true;
  for (Volume* volume : volumes_) {
    if (volume->session() != nullptr) is_idle &= volume->session()->ArmAndCheckIdle();
  }
  is_idle &= borrowed_.ArmAndCheckIdle();
  // A wake-up may have been taken with the last events: what it was for is looked at here.
  return is_idle && !desk_.has_notes() && !is_stopping();
}

int Poller::SleepMs() const {
  constexpr std::int64_t kNsPerMs = 1'000'000;
  int least_ms = borrowed_.is_empty() ? -1 : static_cast<int>(options_.lent_idle_us / 1000);
  for (Volume* volume : volumes_) {
    const std::int64_t ns = volume->session() == nullptr ? 0 : volume->session()->HeldBackNs();
    if (ns <= 0) continue;
    const auto ms = static_cast<int>(std::min<std::int64_t>(ns / kNsPerMs + 1, 1000));
    least_ms = least_ms < 0 ? ms : std::min(least_ms, ms);
  }
  return least_ms;
}

bool Poller::VisitAll() {
  bool did_work = false;
  for (Volume* volume : volumes_) did_work |= volume->Visit();
  borrowed_.CheckMemory();
  return did_work;
}

bool Poller::TakeEvents(int timeout_ms) {
  std::array<epoll_event, 64> events;
  const int count =
      ::epoll_wait(waits_.fd(), events.data(), static_cast<int>(events.size()), timeout_ms);
  bool did_work = false;
  for (int i = 0; i < count; ++i) {
    const WaitTag tag = WaitTag::Unpack(events[static_cast<std::size_t>(i)].data.u64);
    if (tag.volume_index >= group_.volumes.size()) continue;
    Volume& volume = *group_.volumes[tag.volume_index];
    // A kick is the only thing that another's volume has here: that of a queue that it lent.
    const bool is_at_home = tag.volume_index % group_.desks.size() == desk_.poller_index();
    switch (tag.kind) {
      case WaitKind::kListener:
        volume.Accept();
        did_work = true;
        break;
      case WaitKind::kKick:
        if (!is_at_home) borrowed_.CountKick(tag.volume_index, tag.queue_index);
        if (is_at_home && volume.session() != nullptr) {
          volume.session()->CountKick(tag.queue_index);
        }
        break;
      case WaitKind::kClosed:
        volume.OnClosed();
        break;
      case WaitKind::kWake:
        desk_.DrainWake();
        did_work = true;  // there is a reason: no sleep before Run has looked for it
        break;
      case WaitKind::kSession:  // visited below
      case WaitKind::kBackend:  // polled in the next round
        break;
    }
  }
  return VisitAll() || did_work;
}

void Poller::TakeNotes() {
  desk_.Take(notes_);
  for (const Note& note : notes_) {
    switch (note.kind) {
      case NoteKind::kLend:
        counters_.borrowed.Add(1);
        borrowed_.Take(*note.loan);
        break;
      case NoteKind::kRecall:
        borrowed_.GiveBack(note.loan);
        break;
      case NoteKind::kReturn:
        counters_.returned.Add(1);
        note.loan->session->OnReturned(*note.loan);
        break;
    }
  }
  VisitAll();  // a session may have waited for its queues
}

void Poller::Drain() {
  for (Volume* volume : volumes_) {
    if (volume->session() != nullptr) volume->session()->End(Errc::kShuttingDown);
  }
  const auto has_session = [](Volume* volume) { return volume->session() != nullptr; };
  bool is_serving = true;
  // Others may lend something until they notice: it goes back at once.
  while (is_serving || group_.serving_count.load(std::memory_order_acquire) > 0) {
    if (desk_.has_notes()) TakeNotes();
    borrowed_.GiveBackAll();
    if (!Round()) ::sched_yield();
    VisitAll();
    if (!is_serving || std::any_of(volumes_.begin(), volumes_.end(), has_session)) continue;
    is_serving = false;
    group_.serving_count.fetch_sub(1, std::memory_order_release);  // pairs with the load above
  }
  for (Volume* volume : volumes_) {
    const auto flushed = volume->Flush();
    if (!flushed.has_value()) FILER_LOG_ERROR("{}", flushed.assume_error().message());
  }
}

}  // namespace filer::bridge
