#include "host-bridge/target/counters.h"

#include <cstddef>
#include <iterator>

namespace filer::bridge {

void VolumeCounters::AddAll(const VolumeCounters& other) {
  constexpr Counter VolumeCounters::*kPlain[] = {&VolumeCounters::requests,
                                                 &VolumeCounters::errors,
                                                 &VolumeCounters::kicks,
                                                 &VolumeCounters::interrupts,
                                                 &VolumeCounters::copied_bytes,
                                                 &VolumeCounters::transferred_bytes,
                                                 &VolumeCounters::protocol_errors,
                                                 &VolumeCounters::sessions,
                                                 &VolumeCounters::holds};
  static_assert(offsetof(VolumeCounters, latencies) ==
                    sizeof(operations) + sizeof(Counter) * std::size(kPlain),
                "a counter that is not added up");
  for (const auto counter : kPlain) (this->*counter).Add((other.*counter).Get());
  for (std::size_t i = 0; i < operations.size(); ++i) {
    operations[i].requests.Add(other.operations[i].requests.Get());
    operations[i].bytes.Add(other.operations[i].bytes.Get());
  }
  for (std::size_t i = 0; i < latencies.by_operation.size(); ++i) {
    latencies.by_operation[i].AddAll(other.latencies.by_operation[i]);
  }
}

}  // namespace filer::bridge
