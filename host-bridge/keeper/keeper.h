// keeper.h: keeps the bridge daemon running: starts it again the moment it ends, waits longer and
// longer between starts when it never lives for long, and replaces it by another program on
// request, with the old one back if the new one does not come to serve.
//
// Invariants: at most one daemon of ours runs. What is started again after an accident is the very
// file that ran (by descriptor): a new installation takes effect by Upgrade only.
// Threads: Run on the main one; the rest any.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "host-bridge/keeper/child.h"

namespace filer::bridge {

struct KeeperOptions {
  std::vector<std::string> command;  // absolute path of the program, and its arguments
  std::string ready_socket;  // where the program answers `status` (json_rpc.h) when it serves
  // It that lived shorter ended "early": the second early end in a row waits 10 ms, each further
  // one four times as long, up to pause_max.
  std::chrono::milliseconds stable{2'000};
  std::chrono::milliseconds pause_max{5'000};
  std::chrono::milliseconds stop_grace{9'000};      // from SIGTERM to SIGKILL
  std::chrono::milliseconds ready_deadline{5'000};  // of a program that was upgraded to
};

// Pause before the next start after so many early ends in a row.
std::chrono::milliseconds PauseAfter(std::uint32_t early_ends, std::chrono::milliseconds pause_max);

class Keeper {
 public:
  // Errors: OpenProgram's, kSystem.
  static Result<std::unique_ptr<Keeper>> Create(KeeperOptions options);

  // Until `stop_fd` becomes readable; the daemon has ended then, too. Returns the exit status: that
  // of the program when its first start failed, because then its command line or its volumes are
  // wrong, and trying again would hide it. Blocking.
  int Run(int stop_fd);

  // {state, pid, restarts, early_ends, next_start_ms, last_end, ready, upgrade}
  Json Status() const FILER_EXCLUDES(mutex_);
  // Checks that the program answers --version, ends the daemon in order (its requests in flight are
  // finished, all is durable), and starts the program with the same arguments. Answers at once;
  // Status tells how it went. Empty: the file that is now at the present program's path.
  // Errors: kBusy (one is under way), kInvalidArgument.
  Result<Json> RequestUpgrade(const std::string& program) FILER_EXCLUDES(mutex_);

 private:
  struct Shown {                     // what Status says
    std::string state = "starting";  // starting, running, waiting, upgrading, stopping
    std::string program;
    std::string last_end;
    pid_t pid = 0;
    std::uint64_t restarts = 0;
    std::uint32_t early_ends = 0;
    std::int64_t next_start_ns = 0;
    std::string upgrade_state = "none";  // none, running, done, failed
    std::string upgrade_error;
    std::int64_t upgrade_ms = 0;  // from the old one's SIGTERM until the new one served
  };
  explicit Keeper(KeeperOptions options) : options_(std::move(options)) {}

  bool Start();
  void OnEnd();
  bool IsHopeless() const;
  int WaitMs() const;
  void StopChild();
  void Upgrade(int stop_fd);
  Result<void> TryProgram(const std::string& path, const UniqueFd& program);
  bool WaitReady(int stop_fd);
  void SetState(const std::string& state) FILER_EXCLUDES(mutex_);

  const KeeperOptions options_;
  UniqueFd wake_;
  // The main thread's.
  std::vector<std::string> command_;
  UniqueFd program_;  // of command_[0]
  Child child_;
  std::int64_t started_ns_ = 0;
  std::int64_t next_start_ns_ = 0;
  std::uint32_t early_ends_ = 0;
  bool was_stable_ = false;  // some start was a success

  mutable Mutex mutex_;
  Shown shown_ FILER_GUARDED_BY(mutex_);
  std::string wanted_program_ FILER_GUARDED_BY(mutex_);  // of an upgrade that was asked for
};

}  // namespace filer::bridge
