// source_tree.h: what the tidy tests see of a source tree: its text files, and the include
// directives in them. Build folders and version control are left out. Blocking; single thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace filer::tidy {

struct Include {
  std::string path;        // as written
  int line = 0;            // counted from 1
  bool is_quoted = false;  // "path", not <path>
};

struct SourceFile {
  std::string path;  // relative to the root, with slashes
  std::string text;
  int line_count = 0;
  std::vector<Include> includes;  // only of C and C++ files
};

// Something that breaks a rule: `file:line: message` for a person.
struct Finding {
  std::string file;
  int line = 0;
  std::string message;
};
std::string Describe(const std::vector<Finding>& findings);

// True for .h, .cc and .c files.
bool IsCode(std::string_view path);

std::vector<Include> ParseIncludes(std::string_view text);

// Every text file below `root`, sorted by path. Errors: kNotFound or kSystem.
Result<std::vector<SourceFile>> ReadSourceTree(const std::filesystem::path& root);

}  // namespace filer::tidy
