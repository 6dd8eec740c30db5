// `filer bench ...`: becomes filer-bench, the program beside this one, which knows its own options:
// workloads lie above this layer.
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "configs/command/commands.h"
#include "configs/command/console.h"

namespace filer::command {

int Bench(std::vector<std::string> words) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "filer-bench").string();
  words.insert(words.begin(), program);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(program.c_str(), arguments.data());
  return Fail(Error::System(errno, program + ": cannot start it; build the whole project"));
}

}  // namespace filer::command
