// machine.h: what the figures were measured on.
#pragma once

#include "base/json_rpc.h"

namespace filer::bench {

// {cpus, model, kernel, kvm_module, memory_bytes, invariant_tsc, hypervisor}. Never fails: unknown
// is null.
Json DescribeMachine();

}  // namespace filer::bench
