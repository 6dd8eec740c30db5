// child.h: a program that this process started and waits for by a pidfd, without polling. It is
// started from an open file, so that what runs again is what ran before, whatever was installed
// over its path meanwhile. It gets SIGTERM when the thread that started it ends, however that came.
// Threads: one at a time; Start on a thread that lives as long as the process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace filer::bridge {

// An executable file, open. Errors: kNotFound, kAccessDenied, kInvalidArgument (no absolute path,
// or no regular file that may be executed).
Result<UniqueFd> OpenProgram(const std::string& path);

class Child {
 public:
  Child() = default;
  ~Child();  // SIGKILL, and waits for its end
  Child(Child&& other) noexcept = default;
  Child& operator=(Child&& other) noexcept;

  // `arguments[0]` is only the name. Stdin is /dev/null; stdout and stderr are ours.
  // Errors: kSystem.
  static Result<Child> Start(const UniqueFd& program, const std::vector<std::string>& arguments);

  bool is_running() const { return pidfd_.is_open(); }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable when it ended
  void Signal(int number) const;
  // Waits at most so long. True when it ended (or never ran); it is reaped then.
  bool WaitEnd(std::chrono::milliseconds timeout);
  // How it ended, once WaitEnd was true.
  bool was_killed() const { return killed_by_ != 0; }
  int exit_status() const { return exit_status_; }
  std::string EndText() const;  // "was killed by signal 9 (Killed)", "ended with status 1"

 private:
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  int killed_by_ = 0;
  int exit_status_ = 0;
};

}  // namespace filer::bridge
