#include "workloads/lib/source_tree.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

namespace filer::workloads {
namespace {

struct Walk {
  const std::string& root;
  const TreeLimits& limits;
  std::vector<TreeEntry> entries;
  std::map<std::pair<dev_t, ino_t>, std::string> first_names;
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;

  bool IsFull() const { return files >= limits.files_max || bytes >= limits.bytes_max; }
};

Result<std::vector<std::string>> NamesIn(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(folder.c_str()), ::closedir);
  if (!directory) return Error::System(errno, "open folder " + folder);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> AddSymlink(Walk& walk, TreeEntry entry) {
  char target[4096];
  const ssize_t length = ::readlink((walk.root + "/" + entry.path).c_str(), target, sizeof(target));
  if (length < 0) return Error::System(errno, "read link " + entry.path);
  entry.kind = EntryKind::kSymlink;
  entry.link_target.assign(target, static_cast<std::size_t>(length));
  walk.entries.push_back(std::move(entry));
  return Ok();
}

void AddFile(Walk& walk, TreeEntry entry, const struct stat& status) {
  entry.size_bytes = static_cast<std::uint64_t>(status.st_size);
  if (entry.size_bytes > walk.limits.file_bytes_max) return;
  entry.kind = EntryKind::kFile;
  if (status.st_nlink > 1) {
    const auto [known, is_new] =
        walk.first_names.emplace(std::pair(status.st_dev, status.st_ino), entry.path);
    if (!is_new) {
      entry.kind = EntryKind::kHardLink;
      entry.link_target = known->second;
    }
  }
  walk.files += 1;
  walk.bytes += entry.kind == EntryKind::kFile ? entry.size_bytes : 0;
  walk.entries.push_back(std::move(entry));
}

Result<void> Visit(Walk& walk,
                   const std::string& folder) {  // NOLINT: depth is that of the source tree
  const std::string absolute = folder.empty() ? walk.root : walk.root + "/" + folder;
  const std::vector<std::string> names = FILER_TRY(NamesIn(absolute));
  for (const std::string& name : names) {
    if (walk.IsFull()) return Ok();
    TreeEntry entry;
    entry.path = folder.empty() ? name : folder + "/" + name;
    struct stat status {};
    if (::lstat((walk.root + "/" + entry.path).c_str(), &status) != 0) {
      return Error::System(errno, "examine " + entry.path);
    }
    entry.mode = status.st_mode & 07777;
    entry.mtime_us =
        std::int64_t{status.st_mtim.tv_sec} * 1'000'000 + status.st_mtim.tv_nsec / 1000;
    if (S_ISDIR(status.st_mode)) {
      entry.kind = EntryKind::kDirectory;
      walk.entries.push_back(entry);
      FILER_TRY(Visit(walk, entry.path));
    } else if (S_ISLNK(status.st_mode)) {
      FILER_TRY(AddSymlink(walk, std::move(entry)));
    } else if (S_ISREG(status.st_mode)) {
      AddFile(walk, std::move(entry), status);
    }
  }
  return Ok();
}

}  // namespace

Result<std::vector<TreeEntry>> ListTree(const std::string& root, const TreeLimits& limits) {
  Walk walk{.root = root, .limits = limits};
  FILER_TRY(Visit(walk, ""));
  return std::move(walk.entries);
}

}  // namespace filer::workloads
