#include "filer-guest/launcher/cores.h"

#include <sched.h>

namespace filer::guest {
namespace {
constexpr std::size_t kPinningCoresMin = 4;
}

std::vector<int> UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on a machine with more cores than the set has room for: then nothing is pinned.
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return {};
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &set)) cores.push_back(core);
  }
  return cores;
}

std::optional<CorePlan> PlanCores(const std::vector<int>& cores, std::size_t guest_cpu_count,
                                  std::size_t poller_count) {
  const std::size_t needed = guest_cpu_count + poller_count + 1;
  if (cores.size() < kPinningCoresMin || needed > cores.size()) return std::nullopt;
  CorePlan plan;
  const auto poller = cores.rbegin() + static_cast<long>(guest_cpu_count);
  plan.guest_cpus.assign(cores.rbegin(), poller);
  plan.pollers.assign(poller, poller + static_cast<long>(poller_count));
  return plan;
}

}  // namespace filer::guest
