#include "workloads/lib/nfs_tree.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "base/thread_annotations.h"
#include "workloads/lib/nfs_connection.h"

namespace filer::workloads {
namespace {

constexpr std::size_t kFileBytesMax = 1ULL << 30;

// Names that are stable on the server, appended and synced as they become so.
class Journal {
 public:
  static Result<std::unique_ptr<Journal>> Open(const std::string& path) {
    auto journal = std::make_unique<Journal>();
    if (path.empty()) return journal;
    auto text = ReadWholeFile(path, kFileBytesMax);
    if (text) {
      std::istringstream lines(text.value());
      for (std::string line; std::getline(lines, line);) journal->names_.insert(line);
    }
    journal->file_ =
        UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!journal->file_.is_open()) return Error::System(errno, "open " + path);
    return journal;
  }

  bool Contains(const std::string& name) const { return names_.contains(name); }

  Result<void> Append(const std::string& name) {
    if (!file_.is_open()) return Ok();
    const std::string line = name + "\n";
    const MutexLock lock(mutex_);
    if (::write(file_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      return Error::System(errno, "write journal");
    }
    return Ok();
  }

 private:
  std::set<std::string> names_;  // of an earlier run; not changed after Open
  Mutex mutex_;
  UniqueFd file_;
};

// Runs `work(connection, item)` for every item over several connections; the first error stops all.
Result<void> OverConnections(
    const NfsTreeOptions& options, const std::vector<const TreeEntry*>& items,
    const std::function<Result<void>(NfsConnection&, const TreeEntry&)>& work) {
  std::atomic<std::size_t> next{0};
  Mutex mutex;
  std::optional<Error> first_error;
  const auto run = [&] {
    auto connection = NfsConnection::Connect(options.url);
    Result<void> outcome = Ok();
    if (!connection) outcome = connection.error();
    while (outcome) {
      const std::size_t at = next.fetch_add(1);  // relaxed would do: the items do not change
      if (at >= items.size()) return;
      outcome = work(*connection.value(), *items[at]);
    }
    const MutexLock lock(mutex);
    if (!first_error.has_value()) first_error = outcome.error();
    next = items.size();
  };
  std::vector<std::thread> threads;
  for (std::uint32_t index = 0; index < options.connections; ++index) threads.emplace_back(run);
  for (std::thread& thread : threads) thread.join();
  if (first_error.has_value()) return *first_error;
  return Ok();
}

std::string Target(const NfsTreeOptions& options, const std::string& path) {
  return options.target + "/" + path;
}

Result<std::vector<std::byte>> ReadLocal(const NfsTreeOptions& options, const TreeEntry& entry) {
  const std::string text =
      FILER_TRY(ReadWholeFile(options.source + "/" + entry.path, kFileBytesMax));
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return std::vector<std::byte>(bytes, bytes + text.size());
}

Result<void> MakeFolders(NfsConnection& connection, const NfsTreeOptions& options,
                         const std::vector<TreeEntry>& entries) {
  auto made = connection.MakeFolder(options.target, 0755);
  if (!made && made.error() != Errc::kExists) return made;
  for (const TreeEntry& entry : entries) {
    if (entry.kind != EntryKind::kDirectory) continue;
    made = connection.MakeFolder(Target(options, entry.path), entry.mode | 0700);
    if (!made && made.error() != Errc::kExists) return made;
  }
  return Ok();
}

Result<void> CopyOne(NfsConnection& connection, const NfsTreeOptions& options, Journal& journal,
                     const TreeEntry& entry) {
  const std::string target = Target(options, entry.path);
  if (entry.kind == EntryKind::kSymlink) {
    auto made = connection.MakeSymlink(entry.link_target, target);
    if (!made && made.error() != Errc::kExists) return made;
  } else {
    const std::vector<std::byte> content = FILER_TRY(ReadLocal(options, entry));
    FILER_TRY(connection.WriteFile(target, entry.mode, content));
  }
  // The mode again: a file that was there kept its own.
  const auto mode = entry.kind == EntryKind::kSymlink ? std::nullopt : std::optional(entry.mode);
  FILER_TRY(connection.SetModeAndTime(target, mode, entry.mtime_us));
  return journal.Append(entry.path);
}

Result<void> LinkAll(NfsConnection& connection, const NfsTreeOptions& options, Journal& journal,
                     const std::vector<TreeEntry>& entries) {
  for (const TreeEntry& entry : entries) {
    if (entry.kind != EntryKind::kHardLink || journal.Contains(entry.path)) continue;
    auto made =
        connection.MakeLink(Target(options, entry.link_target), Target(options, entry.path));
    if (!made && made.error() != Errc::kExists) return made;
    FILER_TRY(journal.Append(entry.path));
  }
  return Ok();
}

// Deepest first: what is made in a folder changes its time.
Result<void> FinishFolders(NfsConnection& connection, const NfsTreeOptions& options,
                           Journal& journal, const std::vector<TreeEntry>& entries) {
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->kind != EntryKind::kDirectory) continue;
    FILER_TRY(
        connection.SetModeAndTime(Target(options, entry->path), entry->mode, entry->mtime_us));
    FILER_TRY(journal.Append(entry->path));
  }
  return Ok();
}

TreeReport CountOf(const std::vector<TreeEntry>& entries) {
  TreeReport report;
  for (const TreeEntry& entry : entries) {
    report.files += entry.kind == EntryKind::kFile;
    report.folders += entry.kind == EntryKind::kDirectory;
    report.symlinks += entry.kind == EntryKind::kSymlink;
    report.hard_links += entry.kind == EntryKind::kHardLink;
    report.bytes += entry.kind == EntryKind::kFile ? entry.size_bytes : 0;
  }
  return report;
}

std::uint32_t TypeOf(EntryKind kind) {
  switch (kind) {
    case EntryKind::kDirectory:
      return S_IFDIR;
    case EntryKind::kSymlink:
      return S_IFLNK;
    default:
      return S_IFREG;
  }
}

// What differs, or empty.
Result<std::string> CompareOne(NfsConnection& connection, const NfsTreeOptions& options,
                               const TreeEntry& entry) {
  const std::string target = Target(options, entry.path);
  auto found = connection.Examine(target);
  if (!found && found.error() == Errc::kNotFound) return std::string("missing");
  if (!found) return std::move(found).assume_error();
  const NfsAttributes& attributes = found.value();
  if (attributes.type != TypeOf(entry.kind)) return fmt::format("kind {:o}", attributes.type);
  if (entry.kind == EntryKind::kHardLink) {
    const NfsAttributes first = FILER_TRY(connection.Examine(Target(options, entry.link_target)));
    return std::string(
        first.inode == attributes.inode && attributes.links >= 2 ? "" : "not the same inode");
  }
  if (attributes.mtime_us != entry.mtime_us) {
    return fmt::format("modification time {} instead of {}", attributes.mtime_us, entry.mtime_us);
  }
  if (entry.kind == EntryKind::kSymlink) {
    const std::string text = FILER_TRY(connection.ReadSymlink(target));
    return std::string(text == entry.link_target ? "" : "link to " + text);
  }
  if (attributes.mode != entry.mode)
    return fmt::format("mode {:o} instead of {:o}", attributes.mode, entry.mode);
  if (entry.kind == EntryKind::kDirectory) return std::string();
  const std::vector<std::byte> wanted = FILER_TRY(ReadLocal(options, entry));
  if (attributes.size_bytes != wanted.size())
    return fmt::format("size {} instead of {}", attributes.size_bytes, wanted.size());
  const std::vector<std::byte> content = FILER_TRY(connection.ReadFile(target, wanted.size()));
  if (content == wanted) return std::string();
  const auto [ours, theirs] =
      std::mismatch(wanted.begin(), wanted.end(), content.begin(), content.end());
  return fmt::format("content differs from byte {}", ours - wanted.begin());
}

// Names that the server has and the source has not.
Result<std::vector<std::string>> Strangers(NfsConnection& connection, const NfsTreeOptions& options,
                                           const std::vector<TreeEntry>& entries) {
  std::set<std::string> known;
  std::vector<std::string> folders = {""};
  for (const TreeEntry& entry : entries) {
    known.insert(entry.path);
    if (entry.kind == EntryKind::kDirectory) folders.push_back(entry.path);
  }
  std::vector<std::string> strangers;
  for (const std::string& folder : folders) {
    const auto names =
        FILER_TRY(connection.List(folder.empty() ? options.target : Target(options, folder)));
    for (const std::string& name : names) {
      const std::string path = folder.empty() ? name : folder + "/" + name;
      if (!known.contains(path)) strangers.push_back(path + ": not in the source");
    }
  }
  return strangers;
}

}  // namespace

Result<TreeReport> CopyTree(const NfsTreeOptions& options) {
  const auto entries = FILER_TRY(ListTree(options.source, options.limits));
  const auto journal = FILER_TRY(Journal::Open(options.journal_path));
  FILER_TRY(MakeFolders(*FILER_TRY(NfsConnection::Connect(options.url)), options, entries));
  TreeReport report = CountOf(entries);
  std::vector<const TreeEntry*> items;
  for (const TreeEntry& entry : entries) {
    if (entry.kind != EntryKind::kFile && entry.kind != EntryKind::kSymlink) continue;
    if (journal->Contains(entry.path)) {
      report.skipped += 1;
    } else {
      items.push_back(&entry);
    }
  }
  FILER_TRY(OverConnections(options, items, [&](NfsConnection& own, const TreeEntry& entry) {
    return CopyOne(own, options, *journal, entry);
  }));
  // A new connection: servers end those that were silent for minutes.
  const auto connection = FILER_TRY(NfsConnection::Connect(options.url));
  FILER_TRY(LinkAll(*connection, options, *journal, entries));
  FILER_TRY(FinishFolders(*connection, options, *journal, entries));
  return report;
}

Result<TreeReport> CompareTree(const NfsTreeOptions& options) {
  const auto entries = FILER_TRY(ListTree(options.source, options.limits));
  const auto journal = FILER_TRY(Journal::Open(options.journal_path));
  std::vector<TreeEntry> required;
  for (const TreeEntry& entry : entries) {
    if (options.journal_path.empty() || journal->Contains(entry.path)) required.push_back(entry);
  }
  TreeReport report = CountOf(required);
  std::vector<const TreeEntry*> items;
  for (const TreeEntry& entry : required) items.push_back(&entry);
  Mutex mutex;
  FILER_TRY(OverConnections(
      options, items, [&](NfsConnection& own, const TreeEntry& entry) -> Result<void> {
        const std::string difference = FILER_TRY(CompareOne(own, options, entry));
        if (difference.empty()) return Ok();
        const MutexLock lock(mutex);
        if (report.differences.size() < kDifferencesMax)
          report.differences.push_back(entry.path + ": " + difference);
        return Ok();
      }));
  if (options.journal_path.empty()) {
    const auto connection = FILER_TRY(NfsConnection::Connect(options.url));
    for (std::string& stranger : FILER_TRY(Strangers(*connection, options, entries))) {
      if (report.differences.size() < kDifferencesMax)
        report.differences.push_back(std::move(stranger));
    }
  }
  return report;
}

}  // namespace filer::workloads
