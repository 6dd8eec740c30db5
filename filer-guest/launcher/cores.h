// cores.h: which core runs what, so that the bridge's pollers and the guest's processors, which all
// poll, never wait for each other. Both who starts the bridge and who pins the guest ask here.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace filer::guest {

// The cores that this process may run on, ascending; its children inherit them.
std::vector<int> UsableCores();

struct CorePlan {
  std::vector<int> pollers;     // of the bridge
  std::vector<int> guest_cpus;  // one per guest processor, never a poller's
};
// The guest's processors from the last core down, the pollers on those below them. The first core
// is left for the interrupts of ordinary machines and everything else. nullopt below four cores, or
// when there are not enough: sharing a core is worse than floating.
std::optional<CorePlan> PlanCores(const std::vector<int>& cores, std::size_t guest_cpu_count,
                                  std::size_t poller_count = 1);

}  // namespace filer::guest
