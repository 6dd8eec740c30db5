// children.h: the processes that the agent started: each its own session, output to a file, reaped
// here. As PID 1 the agent also reaps orphans. Threads: all methods from any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"

namespace filer::agent {

inline constexpr std::size_t kChildLogBytesMax = 16 << 20;

struct ChildSpec {
  std::string name;                    // "ganesha"
  std::vector<std::string> arguments;  // [0] is the program, found by PATH
  std::string log_path;
  std::vector<std::string> environment;  // "NAME=value", added to ours
  std::string input;                     // given on stdin; at most one pipe's worth (64 KiB)
};

struct ChildState {
  pid_t pid = 0;
  bool is_running = false;
  std::string ending;  // "exit code 1", "signal 11"; empty while it runs
  std::string log_path;
};

class Children {
 public:
  // `outlives_agent` false: children get SIGTERM when the thread that started them ends.
  explicit Children(bool outlives_agent) : outlives_agent_(outlives_agent) {}

  // Errors: kBusy (one of that name runs), kNotFound (no such program), kSystem.
  Result<pid_t> Start(const ChildSpec& spec);
  // Collects what has ended. Called by the queries too.
  void Reap();
  std::optional<ChildState> Find(const std::string& name);
  // Runs a short program to its end. Errors: kRefused with its last output when it fails,
  // kTimedOut.
  Result<void> Run(const ChildSpec& spec, std::chrono::milliseconds timeout);
  // SIGTERM; after `grace` SIGKILL to its whole session, and a short wait for the death of that. True
  // if it ended without SIGKILL, or was not running.
  bool Stop(const std::string& name, std::chrono::milliseconds grace);
  Result<void> Signal(const std::string& name, int signal);
  // The last lines of a child's log, at most `bytes_max`.
  std::string LogTail(const std::string& name, std::size_t bytes_max);
  // Cuts logs that have grown past kChildLogBytesMax.
  void BoundLogs();

 private:
  bool WaitForEnd(const std::string& name, std::chrono::milliseconds timeout);
  void WaitForFamily(pid_t group);

  const bool outlives_agent_;
  Mutex mutex_;
  std::map<std::string, ChildState> children_ FILER_GUARDED_BY(mutex_);
};

// The last `bytes_max` bytes of a file from the start of a line; empty if it cannot be read.
std::string FileTail(const std::string& path, std::size_t bytes_max);

}  // namespace filer::agent
