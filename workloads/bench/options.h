// options.h: the command line of `filer bench bridge`, checked.
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

// Errors: kUsage with one line; so also when the first word is no benchmark.
Result<CommandLine> ParseCommandLine(int count, char** words);

// That a file can be written at `path` (empty: none is asked for). Errors: kUsage.
Result<void> CheckWritable(const char* option, const std::string& path);

}  // namespace filer::bench
