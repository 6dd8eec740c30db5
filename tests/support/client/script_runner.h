// script_runner.h: runs one shell script at a time for the test client's agent.
#pragma once

#include <string>

#include "base/json_rpc.h"
#include "filer-guest/agent/children.h"

namespace filer::test {

inline constexpr std::size_t kScriptBytesMax = 256 * 1024;
inline constexpr std::size_t kOutputBytesMax = 256 * 1024;  // the tail is kept

class ScriptRunner {
 public:
  // `folder` holds script and output.
  ScriptRunner(agent::Children& children, std::string folder)
      : children_(children), folder_(std::move(folder)) {}

  // {script}: starts it under bash and answers {started}. Errors: kBusy while one runs.
  Result<Json> Run(const Json& params);
  // {} -> {done, exit, output}; exit is "exit code N" or "signal N", empty until done.
  Result<Json> Outcome();
  // Ends a script that runs, with all it has started.
  Result<Json> Kill();

 private:
  agent::Children& children_;
  const std::string folder_;
};

}  // namespace filer::test
