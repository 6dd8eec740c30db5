// console.h: what commands print: step lines with seconds, tables, and the one-line error.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer::command {

// Exit codes of all commands (DESIGN, contracts).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitConfigInvalid = 3;
inline constexpr int kExitNotFound = 4;
inline constexpr int kExitRefused = 5;
inline constexpr int kExitNotRunning = 6;

int ExitCodeOf(Errc code);

// "filer: MESSAGE" on stderr; returns the exit code.
int Fail(const Error& error);

// One line per step: "starting the bridge ... 0.2 s". On a terminal the line grows while the step
// runs.
class Step {
 public:
  explicit Step(std::string what);
  ~Step();                                   // without Done: the step failed
  void Progress(const std::string& detail);  // at most one update per second is printed
  void Done(const std::string& detail = "");

 private:
  std::string what_;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point printed_;
  bool is_done_ = false;
  bool is_terminal_;
};

// Columns padded to their widest cell; the first row is the head.
std::string Table(const std::vector<std::vector<std::string>>& rows);

// "1.5 GiB"
std::string HumanBytes(std::uint64_t bytes);

}  // namespace filer::command
