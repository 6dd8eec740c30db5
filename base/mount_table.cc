#include "base/mount_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "base/file.h"

namespace filer {
namespace {

// mountinfo writes blanks, tabs, line ends and backslashes as three octal digits.
std::string Unescape(std::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t blank = line.find(' ');
    if (blank != 0) words.push_back(line.substr(0, blank));
    if (blank == std::string_view::npos) break;
    line.remove_prefix(blank + 1);
  }
  return words;
}

}  // namespace

std::vector<MountEntry> ParseMountInfo(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const auto words = Words(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    // id parent major:minor root mount_point options [optional...] - type source super_options
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 3) continue;
    entries.push_back({.mount_point = Unescape(words[4]),
                       .file_system = Unescape(*(dash + 1)),
                       .source = Unescape(*(dash + 2))});
  }
  return entries;
}

Result<std::vector<MountEntry>> ReadMountTable() {
  return ParseMountInfo(FILER_TRY(ReadWholeFile("/proc/self/mountinfo")));
}

Result<std::string> RealMountPoint(const std::string& path) {
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  if (plain.empty() || plain[0] != '/') {
    return Error(Errc::kInvalidArgument,
                 fmt::format("mount point \"{}\" is not an absolute path", path));
  }
  if (plain == "/") return Error(Errc::kInvalidArgument, "the root cannot be the mount point");
  const std::size_t slash = plain.rfind('/');
  const std::string parent = slash == 0 ? "/" : plain.substr(0, slash);
  std::array<char, PATH_MAX> resolved{};
  if (realpath(parent.c_str(), resolved.data()) == nullptr) {
    return Error::System(errno, "folder of the mount point " + plain);
  }
  const std::string folder = resolved.data();
  return (folder == "/" ? "" : folder) + plain.substr(slash);
}

bool IsMountPoint(const std::string& path) {
  const auto real_path = RealMountPoint(path);
  const auto mounts = ReadMountTable();
  if (!real_path || !mounts) return false;
  return std::any_of(mounts.value().begin(), mounts.value().end(), [&](const MountEntry& mount) {
    return mount.mount_point == real_path.value();
  });
}

Result<std::vector<std::string>> MountPointsBelow(const std::string& folder) {
  std::array<char, PATH_MAX> resolved{};
  if (realpath(folder.c_str(), resolved.data()) == nullptr) {
    return Error::System(errno, "resolve " + folder);
  }
  std::string prefix = resolved.data();
  if (prefix.back() != '/') prefix += '/';
  std::vector<std::string> below;
  for (const MountEntry& mount : FILER_TRY(ReadMountTable())) {
    if (mount.mount_point.starts_with(prefix) && mount.mount_point != prefix) {
      below.push_back(mount.mount_point);
    }
  }
  std::reverse(below.begin(), below.end());
  return below;
}

}  // namespace filer
