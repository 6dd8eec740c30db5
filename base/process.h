// process.h: processes that this program started and may have to stop later, also from another run
// of it. A pid alone may have been given to somebody else since; pid and start time together name
// one process for ever.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer {

struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat
  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

// The identity of a running process. Errors: kNotFound.
Result<ProcessId> IdentifyProcess(pid_t pid);
// False for one that ended (a zombie counts as ended), and for another process under the same pid.
// Any thread.
bool IsRunning(const ProcessId& process);

// True for a pid that nobody has, a zombie, and a process on its way out (which may keep files and
// memory for a while longer).
bool HasEnded(pid_t pid);

struct SpawnOptions {
  std::vector<std::string> arguments;              // [0] is the program, found by PATH
  std::string log_path;                            // stdout and stderr, appended; empty: /dev/null
  std::map<std::string, std::string> environment;  // added to ours
};
// Starts a process of its own session that outlives us; stdin is /dev/null, no descriptor of ours
// leaks into it. Errors: kNotFound (no such program), kSystem.
Result<ProcessId> SpawnDetached(const SpawnOptions& options);

struct ProgramOutput {
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string standard_output;
};
// Runs a program to its end; stderr goes to `error_log_path` (appended; empty: ours). `stop`, if
// any, turning true ends it before: SIGTERM, and a second later SIGKILL. Errors: kNotFound,
// kSystem; kTooBig past 16 MiB of output; kCancelled when it was stopped. Blocking.
Result<ProgramOutput> RunProgram(std::vector<std::string> arguments,
                                 const std::string& error_log_path,
                                 const std::atomic<bool>* stop = nullptr);

// SIGTERM, and SIGKILL when it still runs after `grace`. Returns when it is gone; ok if it was gone
// already. Blocking. Errors: kTimedOut if even SIGKILL does not end it within five seconds,
// kSystem.
Result<void> StopProcess(const ProcessId& process, std::chrono::milliseconds grace);

}  // namespace filer
