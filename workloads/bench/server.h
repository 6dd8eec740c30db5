// server.h: a target process under test: started on a core of its own choosing, killed with us, its
// words kept in a log. Blocking; one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace filer::bench {

struct ServerSpec {
  std::vector<std::string> arguments;  // [0]: the program, found by PATH
  std::string socket_path;             // it is ready when somebody listens here
  std::string log_path;                // stdout and stderr
  int core = -1;                       // all its threads
};

class Server {
 public:
  // Waits until it listens, ten seconds at most. Errors: kNotFound (no such program), kTimedOut,
  // kNotRunning with the last line of its log, kSystem.
  static Result<Server> Start(const ServerSpec& spec);
  Server(Server&& other) noexcept;
  Server& operator=(Server&& other) noexcept;
  ~Server();  // SIGTERM, and after five seconds SIGKILL

  pid_t pid() const { return pid_; }
  // The last line that it wrote, for error messages.
  std::string LastWords() const;

 private:
  Server(pid_t pid, std::string log_path) : pid_(pid), log_path_(std::move(log_path)) {}
  void Stop();
  pid_t pid_ = 0;
  std::string log_path_;
};

// The program's path if PATH has it, else "".
std::string FindProgram(const std::string& name);

}  // namespace filer::bench
