#include "tests/tidy/source_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "base/file.h"

namespace filer::tidy {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileBytesMax = std::size_t{4} << 20;

// Version control, build folders (build, build-asan, ...) and the reports of tools.
bool IsSkipped(std::string_view name) {
  return name == ".git" || name == ".cache" || name.starts_with("build") || name.ends_with(".swp");
}

// `build` is a folder of CMake, but also a script of ours: only the folders are left out.
bool IsSkippedFolder(const fs::directory_entry& entry) {
  return entry.is_directory() && !entry.is_symlink() && IsSkipped(entry.path().filename().string());
}

std::string_view TrimLeft(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

// The path of an include directive, or an empty one.
Include ParseIncludeLine(std::string_view line) {
  line = TrimLeft(line);
  if (!line.starts_with('#')) return {};
  line = TrimLeft(line.substr(1));
  if (!line.starts_with("include")) return {};
  line = TrimLeft(line.substr(std::string_view("include").size()));
  if (line.empty() || (line.front() != '"' && line.front() != '<')) return {};
  const bool is_quoted = line.front() == '"';
  const auto end = line.find(is_quoted ? '"' : '>', 1);
  if (end == std::string_view::npos) return {};
  return {std::string(line.substr(1, end - 1)), 0, is_quoted};
}

}  // namespace

std::string Describe(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{}:{}: {}\n", finding.file, finding.line, finding.message);
  }
  return text;
}

bool IsCode(std::string_view path) {
  return path.ends_with(".h") || path.ends_with(".cc") || path.ends_with(".c");
}

std::vector<Include> ParseIncludes(std::string_view text) {
  std::vector<Include> includes;
  int line_number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    ++line_number;
    Include include = ParseIncludeLine(text.substr(0, end));
    if (!include.path.empty()) {
      include.line = line_number;
      includes.push_back(std::move(include));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return includes;
}

Result<std::vector<SourceFile>> ReadSourceTree(const fs::path& root) {
  std::vector<SourceFile> files;
  std::error_code error;
  fs::recursive_directory_iterator walk(root, error);
  if (error) return Error(Errc::kNotFound, fmt::format("{}: {}", root.string(), error.message()));
  for (; walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    if (error) return Error(Errc::kIo, fmt::format("{}: {}", root.string(), error.message()));
    if (IsSkippedFolder(*walk)) {
      walk.disable_recursion_pending();
      continue;
    }
    if (!walk->is_regular_file() || walk->is_symlink()) continue;
    SourceFile file;
    file.path = fs::relative(walk->path(), root).generic_string();
    file.text = FILER_TRY(ReadWholeFile(walk->path().string(), kFileBytesMax));
    if (file.text.find('\0') != std::string::npos) continue;  // not text
    file.line_count = static_cast<int>(std::count(file.text.begin(), file.text.end(), '\n'));
    if (IsCode(file.path)) file.includes = ParseIncludes(file.text);
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace filer::tidy
