#include "host-bridge/target/poller_group.h"

#include "base/assert.h"
#include "host-bridge/target/limits.h"

namespace filer::bridge {

PollerGroup::~PollerGroup() { Stop(); }

Result<std::unique_ptr<PollerGroup>> PollerGroup::Create(
    const PollerGroupOptions& options, std::vector<std::unique_ptr<Volume>> volumes) {
  FILER_ASSERT(options.poller_count > 0 && options.poller_count <= kPollerCountMax);
  FILER_ASSERT(options.cpus.empty() || options.cpus.size() == options.poller_count);
  std::unique_ptr<PollerGroup> group(new PollerGroup);
  group->state_.volumes = std::move(volumes);
  for (std::uint32_t i = 0; i < options.poller_count; ++i) {
    group->state_.desks.push_back(FILER_TRY(Desk::Create(i)));
  }
  for (std::uint32_t i = 0; i < options.poller_count; ++i) {
    const int cpu = options.cpus.empty() ? -1 : options.cpus[i];
    const PollerOptions poller{cpu, options.idle_us, options.lent_idle_us,
                               options.is_restless_for_test};
    group->pollers_.push_back(FILER_TRY(Poller::Create(poller, group->state_, i)));
  }
  return group;
}

// All run before any is pinned: what one lends another takes.
Result<void> PollerGroup::Start() {
  for (const auto& poller : pollers_) poller->Start();
  for (const auto& poller : pollers_) FILER_TRY(poller->Pin());
  return Ok();
}

void PollerGroup::Stop() {
  state_.is_stopping.store(true, std::memory_order_release);  // pairs with Poller::is_stopping
  Wake();
  for (const auto& poller : pollers_) poller->Join();
}

void PollerGroup::Wake() {
  for (const auto& desk : state_.desks) desk->Wake();
}

PollerCounters PollerGroup::counters() const {
  PollerCounters sum;
  for (const auto& poller : pollers_) {
    const PollerCounters& counters = poller->counters();
    sum.polls.Add(counters.polls.Get());
    sum.busy_polls.Add(counters.busy_polls.Get());
    sum.sleeps.Add(counters.sleeps.Get());
    sum.lent.Add(counters.lent.Get());
    sum.returned.Add(counters.returned.Get());
    sum.borrowed.Add(counters.borrowed.Get());
  }
  return sum;
}

}  // namespace filer::bridge
