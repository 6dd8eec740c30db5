// engine_options.h: the command line of `filer bench engine`, checked.
#pragma once

#include <string>

#include "workloads/bench/engine/engine_runner.h"

namespace filer::bench {

struct EngineCommandLine {
  EngineBenchOptions bench;
  std::string json_path, html_path;  // empty: none
  bool is_help = false;
  std::string help;
};

// `words` begin with the program's name and "engine". Errors: kUsage with one line.
Result<EngineCommandLine> ParseEngineCommandLine(int count, char** words);

}  // namespace filer::bench
