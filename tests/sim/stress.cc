#include "tests/sim/stress.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kFileBytesMost = 200'000;
constexpr std::uint64_t kSharedBlocks = 64;
const Caller kRoot{};

// What a name of a shared folder may answer when another thread was faster.
bool IsLostRace(const Error& error) {
  for (const Errc code : {Errc::kExists, Errc::kNotFound, Errc::kStaleHandle, Errc::kNotEmpty,
                          Errc::kIsDirectory, Errc::kNotDirectory, Errc::kAccessDenied,
                          Errc::kNotPermitted, Errc::kLoop, Errc::kInvalidArgument}) {
    if (error == code) return true;
  }
  return false;
}

template <typename R>
std::string Failed(const char* what, const R& result) {
  return result.has_value() ? "" : fmt::format("{}: {}", what, result.error().message());
}

std::string TextOf(const ReadResult& read) {
  std::string text;
  for (const iovec& segment : read.segments) {
    text.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
  }
  return text;
}

Result<WriteResult> WriteText(Engine& engine, NodeId node, std::uint64_t offset,
                              const std::string& text, Stability stability) {
  const iovec data{const_cast<char*>(text.data()), text.size()};
  return engine.Write(node, offset, {&data, 1}, stability);
}

Result<Created> Make(Engine& engine, NodeId folder, const std::string& name, NodeKind kind) {
  CreateOptions options;
  options.kind = kind;
  options.attributes.mode = 0755;
  if (kind == NodeKind::kSymlink) options.symlink_target = "target";
  return engine.Create(kRoot, folder, name, options);
}

}  // namespace

std::string StressShare::Prepare() {
  root = engine->Root();
  for (std::uint32_t index = 0; index < kStressFolders; ++index) {
    const auto made = Make(*engine, root, fmt::format("s{}", index), NodeKind::kDirectory);
    if (!made.has_value()) return "shared folder: " + made.error().message();
    folders[index] = made.value().node.id;
  }
  const auto made = Make(*engine, root, "whole", NodeKind::kFile);
  if (!made.has_value()) return "shared file: " + made.error().message();
  whole = made.value().node.id;
  return {};
}

std::string StressShare::Verify() {
  std::int64_t found = 0;
  for (const NodeId folder : folders) {
    const auto read = engine->ReadDirectory(folder, 0, [&](const DirectoryEntry&) {
      ++found;
      return true;
    });
    if (!read.has_value()) return Failed("shared folder", read);
  }
  if (found != names.load()) {
    return fmt::format("{} names in the shared folders, made less taken away are {}", found,
                       names.load());
  }
  for (std::uint32_t range = 0; range < kStressRanges; ++range) {
    if (guarded[range] != expected[range].load()) {
      return fmt::format("range {}: {} of {} changes under its lock are there", range,
                         guarded[range], expected[range].load());
    }
  }
  return {};
}

StressThread::StressThread(StressShare& share, std::uint32_t number, std::uint64_t seed)
    : share_(share), number_(number), random_(seed * 1'000'003 + number) {}

std::string StressThread::Prepare() {
  const auto made = Make(engine(), share_.root, fmt::format("t{}", number_), NodeKind::kDirectory);
  if (!made.has_value()) return "own folder: " + made.error().message();
  folder_ = made.value().node.id;
  return {};
}

std::uint64_t StressThread::own_nodes() const {
  std::set<const File*> files;
  for (const auto& [name, file] : names_) files.insert(file.get());
  return files.size();
}

std::string StressThread::Drawn(std::uint64_t length) {
  std::string text(length, '\0');
  const auto start = random_();
  for (std::uint64_t at = 0; at < length; ++at) {
    text[at] = static_cast<char>(start * (at / 64 + 1) >> 32);
  }
  return text;
}

std::string StressThread::Step() {
  share_.operations.fetch_add(1, std::memory_order_relaxed);
  const std::string wrong = random_() % 2 == 0 ? OwnStep() : SharedStep();
  return wrong.empty() ? "" : fmt::format("thread {}: {}", number_, wrong);
}

std::string StressThread::OwnStep() {
  const auto choice = static_cast<std::uint32_t>(random_() % 16);
  if (choice < 6 || names_.empty()) return OwnNames(choice);
  const FilePtr file =
      std::next(names_.begin(), static_cast<std::ptrdiff_t>(random_() % names_.size()))->second;
  switch (choice) {
    case 6:
    case 7:
    case 8:
    case 9:
      return WriteOwn(*file);
    case 10:
    case 11:
      return CutOwn(*file);
    case 12:
      return XattrOwn(*file);
    case 13:
      return Failed("commit", engine().Commit(file->id, 0, 0));
    case 14:
      return random_() % 16 == 0 ? Failed("sync all", engine().SyncAll()) : CompareNames();
    default:
      return CompareOwn(*file);
  }
}

std::string StressThread::OwnNames(std::uint32_t choice) {
  const std::string from = OwnName(), to = OwnName();
  const auto source = names_.find(from);
  const auto target = names_.find(to);
  if (choice < 2 || source == names_.end()) {
    const auto made = Make(engine(), folder_, from, NodeKind::kFile);
    if ((source != names_.end()) != (!made.has_value() && made.error() == Errc::kExists)) {
      return fmt::format("create of {} answers something else", from);
    }
    if (!made.has_value()) return {};
    auto file = std::make_shared<File>();
    file->id = made.value().node.id;
    file->links = 1;
    names_[from] = std::move(file);
    return {};
  }
  const FilePtr moved = source->second;
  if (choice == 2) {
    const auto linked = engine().Link(kRoot, moved->id, folder_, to);
    if (linked.has_value() == (target != names_.end())) return "link answers something else";
    if (!linked.has_value()) return {};
    ++moved->links;
    names_[to] = moved;
    return linked.value().links == moved->links ? "" : "link: another number of links";
  }
  if (choice == 3) {
    const bool is_held = random_() % 2 == 0;
    if (is_held && !engine().Hold(moved->id).has_value()) return "hold fails";
    const auto removed = engine().Remove(kRoot, folder_, from, RemoveKind::kNotDirectory);
    if (!removed.has_value()) return "remove: " + removed.error().message();
    names_.erase(source);
    const bool is_last = --moved->links == 0;
    if (removed.value().last_link != is_last) return "remove: another number of links is left";
    std::string wrong;
    if (is_held && is_last) wrong = CompareOwn(*moved);  // lives on
    if (is_held) engine().Release(moved->id);
    return wrong;
  }
  const auto renamed = engine().Rename(kRoot, folder_, from, folder_, to, kRenameReplace);
  if (!renamed.has_value()) return "rename: " + renamed.error().message();
  if (target != names_.end() && target->second == moved) return {};  // two names of one: stays
  if (target != names_.end()) --target->second->links;
  names_.erase(from);
  names_[to] = moved;
  return {};
}

std::string StressThread::WriteOwn(File& file) {
  const std::uint64_t offset =
      random_() % 3 == 0 ? random_() % 40 * kBlock : random_() % (kFileBytesMost / 2);
  const std::string text = Drawn(1 + random_() % (random_() % 8 == 0 ? 90'000 : 9'000));
  const auto stability = random_() % 4 == 0 ? Stability::kFileSync : Stability::kUnstable;
  const auto written = WriteText(engine(), file.id, offset, text, stability);
  if (!written.has_value()) return "write: " + written.error().message();
  if (file.content.size() < offset + text.size()) file.content.resize(offset + text.size());
  file.content.replace(offset, text.size(), text);
  if (written.value().committed < stability) return "write: less stable than asked for";
  return written.value().attributes.size_bytes == file.content.size()
             ? ""
             : "write: another size than the file's";
}

std::string StressThread::CutOwn(File& file) {
  if (random_() % 2 == 0) {
    AttributeChange change;
    change.size_bytes = random_() % kFileBytesMost;
    const auto cut = engine().SetAttributes(kRoot, file.id, change);
    file.content.resize(*change.size_bytes);
    return Failed("set size", cut);
  }
  const std::uint64_t offset = random_() % kFileBytesMost;
  const std::uint64_t length = 1 + random_() % 50'000;
  const auto punched = engine().Deallocate(kRoot, file.id, offset, length);
  if (offset < file.content.size()) {
    const auto count = std::min<std::uint64_t>(length, file.content.size() - offset);
    file.content.replace(offset, count, count, '\0');
  }
  return Failed("deallocate", punched);
}

std::string StressThread::XattrOwn(File& file) {
  const std::string name = fmt::format("user.x{}", random_() % 3);
  if (random_() % 3 == 0) {
    const auto removed = engine().RemoveXattr(kRoot, file.id, name);
    return removed.has_value() == (file.xattrs.erase(name) == 1) ? "" : "remove xattr differs";
  }
  const std::string value = Drawn(random_() % (random_() % 8 == 0 ? 9'000 : 100));
  const auto set =
      engine().SetXattr(kRoot, file.id, name, value, Engine::XattrMode::kCreateOrReplace);
  file.xattrs[name] = value;
  return Failed("set xattr", set);
}

std::string StressThread::CompareOwn(const File& file) {
  const auto attributes = engine().GetAttributes(file.id);
  if (!attributes.has_value()) return "attributes: " + attributes.error().message();
  if (attributes.value().size_bytes != file.content.size()) return "another size";
  if (attributes.value().links != file.links) return "another number of links";
  const auto read = engine().Read(file.id, 0, kFileBytesMost * 2);
  if (!read.has_value()) return "read: " + read.error().message();
  if (TextOf(read.value()) != file.content) {
    return fmt::format("inode {} has other bytes than were written", file.id.inode);
  }
  const auto listed = engine().ListXattrs(file.id);
  if (!listed.has_value()) return "list xattrs: " + listed.error().message();
  if (listed.value().size() != file.xattrs.size()) return "another number of xattrs";
  for (const auto& [name, value] : file.xattrs) {
    const auto got = engine().GetXattr(file.id, name);
    if (!got.has_value() || got.value() != value) return "another xattr";
  }
  return {};
}

std::string StressThread::CompareNames() {
  std::map<std::string, std::uint64_t> found, expected;
  const auto read = engine().ReadDirectory(folder_, 0, [&](const DirectoryEntry& entry) {
    found[entry.name] = entry.id.inode;
    return true;
  });
  if (!read.has_value()) return "read directory: " + read.error().message();
  for (const auto& [name, file] : names_) expected[name] = file->id.inode;
  return found == expected ? "" : "other names than the thread's";
}

std::string StressThread::SharedStep() {
  const auto choice = random_() % 8;
  if (choice < 4) return SharedNames();
  return choice < 7 ? SharedData() : SharedLock();
}

std::string StressThread::SharedNames() {
  const NodeId from = SharedFolder(), to = SharedFolder();
  const std::string name = SharedName();
  const auto counted = [&](const char* what, const auto& result, int by) -> std::string {
    if (result.has_value()) {
      share_.names.fetch_add(by, std::memory_order_relaxed);
      return {};
    }
    return IsLostRace(result.error()) ? "" : Failed(what, result);
  };
  switch (random_() % 7) {
    case 0:
      return counted("create", Make(engine(), from, name, NodeKind::kFile), 1);
    case 1:
      return counted("create",
                     Make(engine(), from, name,
                          random_() % 2 == 0 ? NodeKind::kDirectory : NodeKind::kSymlink),
                     1);
    case 2:
      return counted("remove", engine().Remove(kRoot, from, name, RemoveKind::kAny), -1);
    case 3: {
      const auto found = engine().Lookup(from, name);
      if (!found.has_value()) return counted("lookup", found, 0);
      const NodeId node = found.value().id;
      const bool is_held = engine().Hold(node).has_value();
      const std::string wrong = counted("link", engine().Link(kRoot, node, to, SharedName()), 1);
      if (is_held) engine().Release(node);
      return wrong;
    }
    case 4:
      return counted("rename",
                     engine().Rename(kRoot, from, name, to, SharedName(), kRenameNoReplace), 0);
    case 5:
      return counted("exchange",
                     engine().Rename(kRoot, from, name, to, SharedName(), kRenameExchange), 0);
    default: {
      std::set<std::uint64_t> cookies;
      std::uint64_t last = 0;
      bool is_ascending = true;
      const auto read = engine().ReadDirectory(from, 0, [&](const DirectoryEntry& entry) {
        is_ascending = is_ascending && entry.cookie > last;
        last = entry.cookie;
        return true;
      });
      if (!read.has_value()) return "shared folder: " + read.error().message();
      return is_ascending ? "" : "a directory's cookies do not ascend";
    }
  }
}

// Whole blocks of one letter are written by all; nobody may see a mixed one.
std::string StressThread::SharedData() {
  const NodeId file = share_.whole;
  const std::uint64_t block = random_() % kSharedBlocks;
  const std::uint64_t count = 1 + random_() % 8;
  switch (random_() % 8) {
    case 0:
    case 1:
    case 2: {
      const std::string text(count * kBlock, static_cast<char>('a' + number_));
      const auto stability = random_() % 3 == 0 ? Stability::kFileSync : Stability::kUnstable;
      return Failed("shared write", WriteText(engine(), file, block * kBlock, text, stability));
    }
    case 3:
      return Failed("shared commit", engine().Commit(file, 0, 0));
    case 4: {
      AttributeChange change;
      change.size_bytes = block * kBlock;
      return Failed("shared set size", engine().SetAttributes(kRoot, file, change));
    }
    case 5:
      return Failed("shared deallocate",
                    engine().Deallocate(kRoot, file, block * kBlock, count * kBlock));
    default: {
      const auto read = engine().Read(file, block * kBlock, count * kBlock);
      if (!read.has_value()) return "shared read: " + read.error().message();
      const std::string text = TextOf(read.value());
      for (std::size_t at = 0; at + kBlock <= text.size(); at += kBlock) {
        if (text.substr(at, kBlock).find_first_not_of(text[at]) != std::string::npos) {
          return "a block of two writes";
        }
      }
      return {};
    }
  }
}

std::string StressThread::SharedLock() {
  const auto range = static_cast<std::uint32_t>(random_() % kStressRanges);
  const std::string owner = fmt::format("thread {}", number_);
  LockRange wanted;
  wanted.offset_bytes = range * 100;
  wanted.length_bytes = 100;
  wanted.kind = LockKind::kWrite;
  const auto locked = engine().Lock(share_.whole, owner, wanted);
  if (!locked.has_value()) return "lock: " + locked.error().message();
  if (locked.value().has_value()) return {};  // somebody else's
  ++share_.guarded[range];
  share_.expected[range].fetch_add(1, std::memory_order_relaxed);
  return Failed("unlock",
                engine().Unlock(share_.whole, owner, wanted.offset_bytes, wanted.length_bytes));
}

std::string StressThread::Settle() {
  for (const auto& [name, file] : names_) {
    const std::string wrong = Failed("commit", engine().Commit(file->id, 0, 0));
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string StressThread::Verify() {
  std::string wrong = CompareNames();
  for (const auto& [name, file] : names_) {
    if (wrong.empty()) wrong = CompareOwn(*file);
  }
  return wrong.empty() ? "" : fmt::format("thread {}'s folder: {}", number_, wrong);
}

}  // namespace filer::engine::sim
