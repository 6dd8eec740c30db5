// `filer test`: ctest on the build folder of this program. Its closing lines, with the count, are
// the last ones printed.
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "configs/command/commands.h"
#include "configs/command/console.h"

namespace filer::command {
namespace {

std::string BuildFolder() {
  if (const char* folder = std::getenv("FILER_BUILD_DIR")) return folder;
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().parent_path();
}

}  // namespace

int Test(const std::string& what) {
  const std::string folder = BuildFolder();
  if (!std::filesystem::exists(folder + "/CTestTestfile.cmake")) {
    return Fail(
        Error(Errc::kNotFound,
              folder + ": no build folder with tests; run ./filer test from the source tree"));
  }
  std::vector<std::string> words = {"ctest", "--test-dir", folder, "--output-on-failure",
                                    "--no-tests=error"};
  // Many tests wait more than they work; those that need the machine for themselves say so
  // (RUN_SERIAL).
  if (what != "long") words.insert(words.end(), {"--parallel", "2"});
  if (what == "all") {
    words.insert(words.end(), {"-LE", "^(long|libblkio)$"});
  } else {
    words.insert(words.end(), {"-L", "^" + what + "$"});
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  return Fail(Error::System(errno, "start ctest"));
}

}  // namespace filer::command
