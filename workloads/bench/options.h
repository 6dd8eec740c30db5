// options.h: the command line of filer-bench, checked.
#pragma once

#include <string>

#include "workloads/bench/runner.h"

namespace filer::bench {

struct CommandLine {
  BenchOptions bench;
  std::string json_path, html_path;  // empty: none
  bool is_help = false;
  std::string help;
};

// Errors: kUsage with one line.
Result<CommandLine> ParseCommandLine(int count, char** words);

}  // namespace filer::bench
