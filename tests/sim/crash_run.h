// crash_run.h: runs a sequence, takes every crash state of it, and verifies each: it mounts, holds
// what was acknowledged and nothing that never was, check finds nothing, and the same holds when
// the power goes again during recovery.
//
// Between two lives of a sequence the volume goes on from one of its crash states, so that what an
// earlier life left in the log, the checkpoint areas and the free blocks is there, too.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/crash_states.h"
#include "tests/sim/file_run.h"
#include "tests/sim/operation.h"

namespace filer::engine::sim {

struct CrashRunOptions {
  CrashStateOptions states;
  // One in so many states is mounted to be written to, the others read-only: recovered in memory,
  // which costs a third. The latter are checked as the crash left them, the former after recovery.
  std::uint32_t writable_stride = 4;
  // One in so many states is crashed again while it recovers, at so many states of that.
  std::uint32_t recovery_stride = 16;
  std::uint32_t recovery_states = 4;
  // One in so many is worked with after the mount, then unmounted in order. Multiples of
  // writable_stride, both.
  std::uint32_t probe_stride = 8;
  // One in so many is served on from by so many operations, until the power goes again: at so many
  // states of that second life.
  std::uint32_t go_on_stride = 64;
  std::uint32_t go_on_operations = 12;
  std::uint32_t go_on_states = 5;
  // Each life begins with a log that is filled nearly to the end of its ring, so that it goes
  // round.
  bool wraps_log = false;
};

struct CrashRunCounts {
  std::uint64_t operations = 0;
  std::uint64_t epochs = 0;
  std::uint64_t states = 0;           // enumerated
  std::uint64_t distinct = 0;         // of these, by their bytes: mounted and verified
  std::uint64_t recovery_states = 0;  // mounted and verified, of recoveries
  std::uint64_t second_states = 0;    // of second lives
  std::uint64_t wraps = 0;            // of the log in lives whose states were taken
  std::uint64_t record_hash = 0;      // of all that was written: the same seed gives the same

  void Add(const CrashRunCounts& other);
};

// Empty: all is well. Deterministic.
std::string RunCrashes(const Sequence& sequence, const CrashRunOptions& options,
                       CrashRunCounts& counts);

// The shortest subset found that `fails` for, by leaving out ever smaller parts. `fails` gets
// subsets of `indexes`. At most `tries_max` calls.
std::vector<std::uint32_t> Shrink(
    std::vector<std::uint32_t> indexes, std::uint32_t tries_max,
    const std::function<bool(const std::vector<std::uint32_t>&)>& fails);

// Runs, and for a failure returns a report: what, the shortened sequence, and the command that runs
// it again. Empty: all is well.
std::string RunCrashesAndShrink(const Sequence& sequence, const CrashRunOptions& options,
                                CrashRunCounts& counts);

// The sequence that CI and the long runs draw for a seed.
Sequence CampaignSequence(std::uint64_t seed);

}  // namespace filer::engine::sim
