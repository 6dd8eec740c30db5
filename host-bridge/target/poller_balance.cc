// poller_balance.cc: when a poller lends a queue and when it gives one back (poller.h).
#include <algorithm>

#include "host-bridge/target/poller.h"

namespace filer::bridge {
namespace {

constexpr std::int64_t kWindowNs = 1'000'000;
constexpr std::uint32_t kWindowsToLend = 4;
constexpr std::uint64_t kRoundsToMeasure = 64;  // empty ones, between two looks at the clock
// So many queues more than another: then one less here and one more there are at most as many.
constexpr std::uint32_t kGap = 2;

}  // namespace

void Poller::StartWindow(std::int64_t now_ns) {
  window_.start_ns = window_.seen_ns = now_ns;
  window_.idle_ns = 0;
  window_.seen_polls = counters_.polls.Get();
  window_.busy_polls = window_.seen_busy_polls = counters_.busy_polls.Get();
}

// The clock is read every so many rounds only. What rounds cost that find nothing is known from the
// times when all did, and is taken off the time of the others.
void Poller::NoteIdleTime(std::int64_t now_ns) {
  const std::int64_t passed_ns = now_ns - window_.seen_ns;
  const std::uint64_t rounds = counters_.polls.Get() - window_.seen_polls;
  const std::uint64_t busy_rounds = counters_.busy_polls.Get() - window_.seen_busy_polls;
  window_.seen_ns = now_ns;
  window_.seen_polls += rounds;
  window_.seen_busy_polls += busy_rounds;
  if (busy_rounds == 0) {
    window_.idle_ns += passed_ns;
    if (rounds < kRoundsToMeasure) return;
    const double round_ns = static_cast<double>(passed_ns) / static_cast<double>(rounds);
    if (empty_round_ns_ == 0 || round_ns < empty_round_ns_) empty_round_ns_ = round_ns;
    return;
  }
  const double idle_ns = static_cast<double>(rounds - busy_rounds) * empty_round_ns_;
  window_.idle_ns += std::min(passed_ns, static_cast<std::int64_t>(idle_ns));
}

void Poller::Balance(std::int64_t now_ns) {
  if (options_.is_restless_for_test) return WanderForTest();
  NoteIdleTime(now_ns);
  const std::int64_t window_ns = now_ns - window_.start_ns;
  if (window_ns < kWindowNs) return;
  const std::int64_t worked_ns = window_ns - window_.idle_ns;
  const std::uint64_t busy_rounds = counters_.busy_polls.Get() - window_.busy_polls;
  StartWindow(now_ns);
  const Look look = LookAround(busy_rounds, now_ns);
  desk_.SetBusyQueues(worked_ns * 8 >= window_ns ? look.busy_queues : 0);
  borrowed_.GiveBackIdle(now_ns, std::int64_t{options_.lent_idle_us} * 1000);
  const bool is_saturated = worked_ns * 8 >= window_ns * 7;
  window_.saturated_before = is_saturated ? window_.saturated_before + 1 : 0;
  if (window_.saturated_before < kWindowsToLend || look.busy_queues < kGap) return;
  window_.saturated_before = 0;
  Shed(look);
}

Poller::Look Poller::LookAround(std::uint64_t busy_rounds, std::int64_t now_ns) {
  Look look;
  for (Volume* volume : volumes_) {
    if (volume->session() == nullptr) continue;
    SessionLoad load;
    volume->session()->NoteLoad(busy_rounds, load);
    look.busy_queues += load.busy_queues;
    if (!load.lendable_queue) continue;
    look.lender = volume;
    look.queue_index = *load.lendable_queue;
  }
  look.busy_queues += borrowed_.CountBusy(busy_rounds, now_ns);
  return look;
}

std::optional<std::uint32_t> Poller::LeastBusyPeer() const {
  std::optional<std::uint32_t> least;
  for (const auto& desk : group_.desks) {
    if (desk.get() == &desk_) continue;
    if (!least || desk->busy_queues() < group_.desks[*least]->busy_queues()) {
      least = desk->poller_index();
    }
  }
  return least;
}

void Poller::Shed(const Look& look) {
  if (borrowed_.GiveBackToIdler(look.busy_queues, kGap)) return;
  const auto peer = LeastBusyPeer();
  if (!peer || look.lender == nullptr) return;
  Desk& desk = *group_.desks[*peer];
  if (desk.busy_queues() + kGap > look.busy_queues) return;
  desk.AddBusyQueue();  // so that another poller does not choose it as well
  look.lender->session()->Lend(look.queue_index, desk, look.lender->CountersOf(*peer));
  counters_.lent.Add(1);
}

void Poller::WanderForTest() {
  borrowed_.GiveBackUsedForTest();
  const auto peer = (desk_.poller_index() + 1) % static_cast<std::uint32_t>(group_.desks.size());
  for (Volume* volume : volumes_) {
    if (volume->session() == nullptr) continue;
    counters_.lent.Add(
        volume->session()->LendAllForTest(*group_.desks[peer], volume->CountersOf(peer)));
  }
}

}  // namespace filer::bridge
