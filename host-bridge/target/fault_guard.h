// fault_guard.h: a client may truncate the file behind its memory while we read it, which is a
// SIGBUS. The guard knows all mapped guest regions; a fault inside one replaces that region by zero
// pages and marks it broken, so that only its own session ends. A fault elsewhere is ours and kills
// the process as usual.
// Threads: Add, Remove and IsBroken from any; the handler runs on the faulting one, without locks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace filer::bridge {

class FaultGuard {
 public:
  // Installs the signal handler; once per process, later calls do nothing.
  static void Install();
  // Guards a mapping. Errors: kTooBig when the table is full.
  static Result<std::size_t> Add(void* base, std::size_t length_bytes);
  static void Remove(std::size_t slot);
  static bool IsBroken(std::size_t slot);
};

}  // namespace filer::bridge
