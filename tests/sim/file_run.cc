#include "tests/sim/file_run.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <limits>

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kBlock = kModelBlockBytes;
constexpr std::uint64_t kEnd = std::numeric_limits<std::uint64_t>::max();
const Caller kRoot{};

bool IsDirectory(const FileModel& model, std::uint64_t inode) {
  return inode != 0 && model.nodes.at(inode).kind == NodeKind::kDirectory;
}

std::uint64_t EntryOf(const ModelNode& directory, const std::string& name) {
  const auto found = directory.entries.find(name);
  return found == directory.entries.end() ? 0 : found->second.inode;
}

std::uint64_t BlocksOf(std::uint64_t bytes) { return (bytes + kBlock - 1) / kBlock; }

}  // namespace

std::uint64_t Issued::NewestChange(std::uint64_t inode, std::uint64_t up_to) const {
  const auto seen = changes.find(inode);
  std::uint64_t newest = 0;
  if (seen == changes.end()) return newest;
  for (const auto& [change, at] : seen->second) {
    if (at <= up_to) newest = change;  // in order
  }
  return newest;
}

void Issued::Rewind(std::uint64_t to_operation) {
  operation = to_operation;
  const auto is_later = [&](const auto& entry) { return entry.second > to_operation; };
  std::erase_if(inodes, is_later);
  for (auto& [directory, of] : cookies) std::erase_if(of, is_later);
  for (auto& [inode, of] : changes) std::erase_if(of, is_later);
}

void KeepFreedMemory() {
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
}

MountOptions QuietMountOptions() {
  MountOptions options;
  options.checkpoint_interval_ms = std::numeric_limits<std::uint32_t>::max();
  return options;
}

FileRun::FileRun(BlockDevice& device, ManualClock& clock, const MountOptions& options,
                 std::uint64_t seed, FileModel model, Issued& issued)
    : device_(device),
      clock_(clock),
      options_(options),
      seed_(seed),
      model_(std::move(model)),
      issued_(issued) {}

FileRun::~FileRun() = default;

std::string FileRun::Mount() {
  auto mounted = Engine::Mount(device_, clock_, options_);
  if (!mounted.has_value()) return "mount: " + mounted.error().message();
  engine_ = std::move(mounted).value();
  return {};
}

std::string FileRun::Compare() {
  const auto found = ReadModel(*engine_);
  if (!found.has_value()) return "reading all: " + found.error().message();
  return Difference(found.value(), model_, true);
}

std::string FileRun::Adopt() {
  auto found = ReadModel(*engine_);
  if (!found.has_value()) return "reading all: " + found.error().message();
  model_ = std::move(found).value();
  return {};
}

std::string FileRun::GoOnAfterFailure(const std::vector<const FileModel*>& candidates) {
  const auto found = ReadModel(*engine_);
  if (!found.has_value()) return "reading all: " + found.error().message();
  std::string text;
  for (const FileModel* candidate : candidates) {
    const std::string difference = Difference(found.value(), *candidate, false);
    if (!difference.empty()) {
      text += "; nor " + difference;
      continue;
    }
    const FileModel shown = *candidate;  // may be our own
    model_ = shown;
    for (const auto& [inode, now] : found.value().nodes) {
      ModelNode& node = model_.nodes.at(inode);
      if (node.kind == NodeKind::kFile) node.Show(now);
      node.older_mtimes.insert(node.mtime_ns);
      node.mtime_ns = now.mtime_ns;
    }
    has_failed_ = false;
    return {};
  }
  return "after a failure the engine shows something else: " + text;
}

std::string FileRun::Do(const Operation& operation) {
  ++issued_.operation;
  clock_.AdvanceNs(1'000'000 + static_cast<std::int64_t>(operation.draw % 1'000'000'000));
  during_.reset();
  is_done_ = false;
  const std::string wrong = Run(operation);
  if (!wrong.empty()) return Text(operation) + ": " + wrong;
  if (has_failed_) return {};
  steps_.push_back({operation, model_, std::move(during_)});
  if (on_answered_) on_answered_(steps_.size());
  return {};
}

std::string FileRun::Run(const Operation& operation) {
  switch (operation.kind) {
    case OperationKind::kCreate:
      return Create(operation);
    case OperationKind::kLink:
      return Link(operation);
    case OperationKind::kRemove:
      return Remove(operation);
    case OperationKind::kRename:
      return Rename(operation);
    case OperationKind::kWrite:
      return Write(operation);
    case OperationKind::kRead:
      return Read(operation);
    case OperationKind::kCommit:
      return Commit(operation);
    case OperationKind::kSetSize:
      return SetSize(operation);
    case OperationKind::kSetAttributes:
      return SetAttributes(operation);
    case OperationKind::kSetXattr:
      return SetXattr(operation);
    case OperationKind::kDeallocate:
      return Deallocate(operation);
    case OperationKind::kAllocate:
      return Allocate(operation);
    case OperationKind::kSeek:
      return Seek(operation);
    case OperationKind::kReadDirectory:
      return ReadDirectory(operation);
    case OperationKind::kLookup:
      return Lookup(operation);
    case OperationKind::kHold:
      return Hold(operation);
    case OperationKind::kRelease:
      return Release(operation);
    case OperationKind::kSyncAll:
      return SyncAll();
    case OperationKind::kRemount:
      return Remount();
  }
  return "no such operation";
}

// ---- where ------------------------------------------------------------------------------------

std::uint64_t FileRun::DirectoryAt(const Operation::Place& place) const {
  std::uint64_t at = kRootInode;
  for (const std::uint8_t step : place.path) {
    if (step == 0) continue;
    const std::uint64_t next = EntryOf(model_.nodes.at(at), "d" + std::to_string(step));
    if (!IsDirectory(model_, next)) break;
    at = next;
  }
  return at;
}

std::string FileRun::NameAt(const Operation::Place& place, std::uint64_t draw) {
  if (draw % 4 == 0) return "d" + std::to_string(1 + place.name % 3);
  return "n" + std::to_string(place.name);
}

std::uint64_t FileRun::FileAt(const Operation& operation) const {
  const std::uint64_t named = EntryOf(model_.nodes.at(DirectoryAt(operation.from)),
                                      "n" + std::to_string(operation.from.name));
  if (named != 0 && model_.nodes.at(named).kind == NodeKind::kFile) return named;
  NodeIds files;
  for (const auto& [inode, node] : model_.nodes) {
    if (node.kind == NodeKind::kFile) files.push_back(inode);
  }
  return files.empty() ? 0 : files[operation.draw % files.size()];
}

std::uint64_t FileRun::NodeAt(const Operation& operation) const {
  NodeIds all;
  for (const auto& [inode, node] : model_.nodes) all.push_back(inode);
  return all[operation.draw / 16 % all.size()];
}

// ---- what -------------------------------------------------------------------------------------

template <typename R>
std::string FileRun::Met(const R& result, std::optional<Errc> expected) {
  is_done_ = result.has_value();
  if (is_done_) {
    return expected.has_value() ? fmt::format("succeeded, expected: {}", ErrcText(*expected)) : "";
  }
  const Errc code = result.error().code();
  if (expected.has_value() && code == *expected) return {};
  if (may_fail_) {
    has_failed_ = true;
    failure_ = code;
    return {};
  }
  return fmt::format("failed: {}, expected: {}", result.error().message(),
                     expected.has_value() ? ErrcText(*expected) : "success");
}

template std::string FileRun::Met(const Result<void>&, std::optional<Errc>);  // file_run_acl.cc

void FileRun::AddEntry(std::uint64_t directory, const std::string& name, std::uint64_t child) {
  model_.nodes.at(directory).entries[name] = {child, 0};
  if (IsDirectory(model_, child)) {
    ++model_.nodes.at(directory).links;
  } else {
    ++model_.nodes.at(child).links;
  }
  TouchDirectory(directory);
}

void FileRun::RemoveEntry(std::uint64_t directory, const std::string& name) {
  ModelNode& node = model_.nodes.at(directory);
  const std::uint64_t child = node.entries.at(name).inode;
  node.entries.erase(name);
  if (IsDirectory(model_, child)) {
    --node.links;
  } else {
    --model_.nodes.at(child).links;
  }
  TouchDirectory(directory);
}

void FileRun::TouchDirectory(std::uint64_t directory) {
  model_.nodes.at(directory).mtime_ns = clock_.RealtimeNs();
}

// The names are the model's; old ones kept their cookies, new ones have cookies that nobody had.
std::string FileRun::CheckEntries(std::uint64_t directory) {
  ModelNode& node = model_.nodes.at(directory);
  std::string wrong;
  std::size_t count = 0;
  const auto read = engine_->ReadDirectory(Id(directory), 0, [&](const DirectoryEntry& entry) {
    ++count;
    const auto known = node.entries.find(entry.name);
    if (known == node.entries.end() || known->second.inode != entry.id.inode) {
      wrong = "a directory lists " + entry.name + ", which is not there";
      return false;
    }
    if (known->second.cookie == entry.cookie) return true;
    if (known->second.cookie != 0) wrong = "the cookie of " + entry.name + " changed";
    if (!issued_.AddCookie(directory, entry.cookie)) {
      wrong = fmt::format("the cookie {} was issued again, for {}", entry.cookie, entry.name);
    }
    known->second.cookie = entry.cookie;
    return wrong.empty();
  });
  if (!read.has_value()) return Met(read, std::nullopt);
  if (!wrong.empty()) return wrong;
  return count == node.entries.size() ? "" : "a directory does not list all of its names";
}

std::string FileRun::CheckChanged(std::uint64_t inode) {
  const auto attributes = engine_->GetAttributes(Id(inode));
  if (!attributes.has_value()) return Met(attributes, std::nullopt);
  const std::uint64_t newest = issued_.NewestChange(inode, issued_.operation);
  if (attributes.value().change <= newest) {
    return fmt::format("inode {} changed and has the change attribute {}; {} was seen before",
                       inode, attributes.value().change, newest);
  }
  issued_.changes[inode][attributes.value().change] = issued_.operation;
  return {};
}

std::string FileRun::Create(const Operation& operation) {
  const std::uint64_t directory = DirectoryAt(operation.from);
  const auto dice = operation.draw / 4 % 16;
  CreateOptions options;
  options.kind = dice < 3    ? NodeKind::kDirectory
                 : dice == 3 ? NodeKind::kSymlink
                 : dice == 4 ? NodeKind::kFifo
                             : NodeKind::kFile;
  if (dice == 5) options.exclusive_verifier = {1, 2, 3, 4, 5, 6, 7, 8};
  if (dice == 6) options.attributes.size_bytes = operation.length;
  const std::string target = "to/" + std::to_string(operation.draw);
  if (options.kind == NodeKind::kSymlink) options.symlink_target = target;
  options.attributes.mode = static_cast<std::uint32_t>(operation.draw / 64 % 01000);
  const std::string name = options.kind == NodeKind::kDirectory
                               ? "d" + std::to_string(1 + operation.from.name % 3)
                               : "n" + std::to_string(operation.from.name);
  const std::uint64_t there = EntryOf(model_.nodes.at(directory), name);
  const auto created = engine_->Create(kRoot, Id(directory), name, options);
  if (created.has_value() && created.value().existed) {  // made by the same verifier, perhaps
    const bool is_same = there != 0 && created.value().node.id.inode == there;
    return is_same && dice == 5 ? "" : "an exclusive create met another node";
  }
  const std::string wrong =
      Met(created, there != 0 ? std::optional<Errc>(Errc::kExists) : std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  const Attributes& made = created.value().node;
  if (!issued_.AddInode(made.id.inode)) {
    return fmt::format("the inode number {} was issued again", made.id.inode);
  }
  ModelNode node;
  node.kind = options.kind;
  node.mode = *options.attributes.mode;
  node.mtime_ns = clock_.RealtimeNs();
  node.symlink = options.symlink_target;
  node.links = options.kind == NodeKind::kDirectory ? 2 : 0;
  if (options.attributes.size_bytes.has_value()) node.Resize(*options.attributes.size_bytes);
  model_.nodes[made.id.inode] = std::move(node);
  AddEntry(directory, name, made.id.inode);
  const std::string changed = CheckChanged(directory) + CheckChanged(made.id.inode);
  return changed.empty() ? CheckEntries(directory) : changed;
}

std::string FileRun::Link(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  const std::uint64_t directory = DirectoryAt(operation.to);
  const std::string name = NameAt(operation.to, operation.draw);
  std::optional<Errc> expected;
  if (EntryOf(model_.nodes.at(directory), name) != 0) expected = Errc::kExists;
  if (model_.nodes.at(file).links == 0) expected = Errc::kNotFound;
  const auto linked = engine_->Link(kRoot, Id(file), Id(directory), name);
  const std::string wrong = Met(linked, expected);
  if (!wrong.empty() || !is_done_) return wrong;
  AddEntry(directory, name, file);
  const std::string changed = CheckChanged(directory) + CheckChanged(file);
  return changed.empty() ? CheckEntries(directory) : changed;
}

std::string FileRun::Remove(const Operation& operation) {
  const std::uint64_t directory = DirectoryAt(operation.from);
  const std::string name = NameAt(operation.from, operation.draw);
  const std::uint64_t child = EntryOf(model_.nodes.at(directory), name);
  constexpr RemoveKind kKinds[] = {RemoveKind::kAny, RemoveKind::kAny, RemoveKind::kAny,
                                   RemoveKind::kNotDirectory, RemoveKind::kDirectory};
  const RemoveKind kind = kKinds[operation.draw / 4 % 5];
  std::optional<Errc> expected;
  if (child == 0) {
    expected = Errc::kNotFound;
  } else if (IsDirectory(model_, child)) {
    if (kind == RemoveKind::kNotDirectory) {
      expected = Errc::kIsDirectory;
    } else if (!model_.nodes.at(child).entries.empty()) {
      expected = Errc::kNotEmpty;
    }
  } else if (kind == RemoveKind::kDirectory) {
    expected = Errc::kNotDirectory;
  }
  const auto removed = engine_->Remove(kRoot, Id(directory), name, kind);
  const std::string wrong = Met(removed, expected);
  if (!wrong.empty() || !is_done_) return wrong;
  RemoveEntry(directory, name);
  if (IsDirectory(model_, child)) model_.nodes.at(child).links = 0;
  const bool is_last = model_.nodes.at(child).links == 0;
  model_.DropIfGone(child);
  if (removed.value().node != Id(child)) return "remove names another node";
  if (removed.value().last_link != is_last) return "remove does not know the last link";
  const std::string changed = CheckChanged(directory);
  return changed.empty() ? CheckEntries(directory) : changed;
}

std::optional<Errc> FileRun::RenameError(std::uint64_t from, const std::string& from_name,
                                         std::uint64_t to, const std::string& to_name,
                                         std::uint32_t flags) const {
  const std::uint64_t source = EntryOf(model_.nodes.at(from), from_name);
  const std::uint64_t target = EntryOf(model_.nodes.at(to), to_name);
  const bool is_exchange = flags == kRenameExchange;
  if (source == 0) return Errc::kNotFound;
  const bool moves = from != to;
  if (moves && IsDirectory(model_, source) && model_.IsBelow(to, source)) return Errc::kLoop;
  if (moves && is_exchange && IsDirectory(model_, target) && model_.IsBelow(from, target)) {
    return Errc::kLoop;
  }
  if (target == 0) return is_exchange ? std::optional<Errc>(Errc::kNotFound) : std::nullopt;
  if (flags == kRenameNoReplace) return Errc::kExists;
  if (is_exchange || source == target) return std::nullopt;
  if (IsDirectory(model_, target) && !IsDirectory(model_, source)) return Errc::kIsDirectory;
  if (!IsDirectory(model_, target) && IsDirectory(model_, source)) return Errc::kNotDirectory;
  const bool is_full = IsDirectory(model_, target) && !model_.nodes.at(target).entries.empty();
  return is_full ? std::optional<Errc>(Errc::kNotEmpty) : std::nullopt;
}

void FileRun::ApplyRename(std::uint64_t from, const std::string& from_name, std::uint64_t to,
                          const std::string& to_name, std::uint32_t flags) {
  const std::uint64_t source = EntryOf(model_.nodes.at(from), from_name);
  const std::uint64_t target = EntryOf(model_.nodes.at(to), to_name);
  if (source == target) return;
  // Exchanged, both entries stay, and so do their cookies.
  const std::uint64_t from_cookie = model_.nodes.at(from).entries.at(from_name).cookie;
  const std::uint64_t to_cookie = target == 0 ? 0 : model_.nodes.at(to).entries.at(to_name).cookie;
  RemoveEntry(from, from_name);
  if (target != 0) RemoveEntry(to, to_name);
  AddEntry(to, to_name, source);
  if (flags == kRenameExchange) {
    AddEntry(from, from_name, target);
    model_.nodes.at(from).entries.at(from_name).cookie = from_cookie;
    model_.nodes.at(to).entries.at(to_name).cookie = to_cookie;
  } else if (target != 0) {
    if (IsDirectory(model_, target)) model_.nodes.at(target).links = 0;
    model_.DropIfGone(target);
  }
}

std::string FileRun::Rename(const Operation& operation) {
  const std::uint64_t from = DirectoryAt(operation.from);
  const std::uint64_t to = DirectoryAt(operation.to);
  const std::string from_name = NameAt(operation.from, operation.draw);
  const std::string to_name = NameAt(operation.to, operation.draw / (operation.draw % 8 + 1));
  std::uint32_t flags = kRenameReplace;
  if (operation.draw / 64 % 6 == 0) flags = kRenameNoReplace;
  if (operation.draw / 64 % 6 == 1) flags = kRenameExchange;
  const std::uint64_t source = EntryOf(model_.nodes.at(from), from_name);
  const bool is_nothing = source != 0 && source == EntryOf(model_.nodes.at(to), to_name);
  const auto expected = RenameError(from, from_name, to, to_name, flags);
  const auto renamed = engine_->Rename(kRoot, Id(from), from_name, Id(to), to_name, flags);
  const std::string wrong = Met(renamed, expected);
  if (!wrong.empty() || !is_done_ || is_nothing) return wrong;
  ApplyRename(from, from_name, to, to_name, flags);
  std::string changed = CheckChanged(from) + CheckChanged(source);
  if (from != to) changed += CheckChanged(to) + CheckEntries(from);
  return changed.empty() ? CheckEntries(to) : changed;
}

std::string FileRun::Write(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  std::string bytes = ContentOf(seed_, operation.index, operation.offset, operation.length);
  // In one to three pieces: the engine must not mind.
  std::vector<iovec> data;
  const std::uint64_t piece = bytes.size() / (1 + operation.draw % 3) + 1;
  for (std::uint64_t at = 0; at < bytes.size(); at += piece) {
    data.push_back({bytes.data() + at, std::min<std::uint64_t>(piece, bytes.size() - at)});
  }
  ModelNode& node = model_.nodes.at(file);
  node.Put(operation.offset, bytes);
  node.older_mtimes.insert(node.mtime_ns);
  node.mtime_ns = clock_.RealtimeNs();
  during_ = model_;
  const auto written = engine_->Write(Id(file), operation.offset, data, operation.stability);
  const std::string wrong = Met(written, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  if (written.value().length_bytes != bytes.size()) return "a short write";
  if (written.value().committed < operation.stability) return "less stable than asked for";
  if (written.value().attributes.size_bytes != node.size) return "write tells another size";
  if (operation.stability != Stability::kUnstable) {
    node.Settle(operation.offset / kBlock, BlocksOf(operation.offset + bytes.size()));
  }
  if (operation.stability == Stability::kFileSync) node.older_mtimes.clear();
  return CheckChanged(file);
}

std::string FileRun::Read(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  const ModelNode& node = model_.nodes.at(file);
  const auto read = engine_->Read(Id(file), operation.offset, operation.length);
  const std::string wrong = Met(read, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  std::string bytes;
  for (const iovec& segment : read.value().segments) {
    bytes.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
  }
  if (bytes != node.Content(operation.offset, operation.length)) return "another content";
  const bool is_end = operation.offset + operation.length >= node.size;
  return read.value().is_end_of_file == is_end ? "" : "wrong about the end of the file";
}

std::string FileRun::Commit(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  const bool is_all = operation.draw / 4 % 2 == 0;
  const auto committed = is_all ? engine_->Commit(Id(file), 0, 0)
                                : engine_->Commit(Id(file), operation.offset, operation.length);
  const std::string wrong = Met(committed, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  if (committed.value() != engine_->Verifier()) return "commit tells another verifier";
  ModelNode& node = model_.nodes.at(file);
  if (is_all) {
    node.Settle(0, kEnd);
    return {};
  }
  // A part: its data, and the size as far as that data reaches.
  const std::uint64_t first = operation.offset / kBlock;
  const std::uint64_t end = BlocksOf(operation.offset + operation.length);
  auto behind = node.older.lower_bound(end);
  if (behind == node.older.begin() || std::prev(behind)->first < first) return {};
  node.Settle(first, std::prev(behind)->first + 1);
  return {};
}

std::string FileRun::SetSize(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  AttributeChange change;
  change.size_bytes = operation.length;
  const auto changed = engine_->SetAttributes(kRoot, Id(file), change);
  const std::string wrong = Met(changed, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  ModelNode& node = model_.nodes.at(file);
  node.Resize(operation.length);
  node.mtime_ns = clock_.RealtimeNs();
  node.older_mtimes.clear();
  if (changed.value().size_bytes != node.size) return "set attributes tells another size";
  return CheckChanged(file);
}

std::string FileRun::SetAttributes(const Operation& operation) {
  const std::uint64_t inode = NodeAt(operation);
  AttributeChange change;
  if (operation.draw % 2 == 0) change.mode = static_cast<std::uint32_t>(operation.length % 01000);
  if (operation.draw % 3 == 0) change.uid = static_cast<std::uint32_t>(operation.length % 7);
  if (operation.draw % 5 == 0) change.gid = static_cast<std::uint32_t>(operation.length % 5);
  if (operation.draw % 7 < 3) {
    change.mtime_ns = static_cast<std::int64_t>(operation.draw % 1'000'000'000'000'000);
  }
  const auto changed = engine_->SetAttributes(kRoot, Id(inode), change);
  const std::string wrong = Met(changed, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  ModelNode& node = model_.nodes.at(inode);
  if (change.mode.has_value()) SetMode(inode, *change.mode);
  node.uid = change.uid.value_or(node.uid);
  node.gid = change.gid.value_or(node.gid);
  if (change.mtime_ns.has_value()) {
    node.mtime_ns = *change.mtime_ns;
    node.older_mtimes.clear();
  }
  return CheckChanged(inode);
}

std::string FileRun::SetXattr(const Operation& operation) {
  if (operation.draw / 64 % 2 == 0) return SetPosixList(operation);
  const std::uint64_t inode = NodeAt(operation);
  auto& xattrs = model_.nodes.at(inode).xattrs;
  const std::string name = "user." + std::to_string(operation.from.name);
  const bool exists = xattrs.contains(name);
  if (operation.draw % 3 == 0) {
    const auto removed = engine_->RemoveXattr(kRoot, Id(inode), name);
    const std::string wrong =
        Met(removed, exists ? std::nullopt : std::optional<Errc>(Errc::kNoAttribute));
    if (!wrong.empty() || !is_done_) return wrong;
    xattrs.erase(name);
    return CheckChanged(inode);
  }
  const std::string value =
      ContentOf(seed_, operation.index, 0, operation.draw / 3 % 8 == 0 ? 9000 : 200);
  auto mode = Engine::XattrMode::kCreateOrReplace;
  std::optional<Errc> expected;
  if (operation.draw % 8 == 1) {
    mode = Engine::XattrMode::kCreate;
    if (exists) expected = Errc::kExists;
  } else if (operation.draw % 8 == 2) {
    mode = Engine::XattrMode::kReplace;
    if (!exists) expected = Errc::kNoAttribute;
  }
  const auto set = engine_->SetXattr(kRoot, Id(inode), name, value, mode);
  const std::string wrong = Met(set, expected);
  if (!wrong.empty() || !is_done_) return wrong;
  xattrs[name] = value;
  return CheckChanged(inode);
}

std::string FileRun::Deallocate(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  ModelNode& node = model_.nodes.at(file);
  if (operation.offset < node.size) {
    node.Put(operation.offset,
             std::string(std::min(operation.length, node.size - operation.offset), '\0'));
  }
  node.older_mtimes.insert(node.mtime_ns);
  node.mtime_ns = clock_.RealtimeNs();
  during_ = model_;
  const auto punched = engine_->Deallocate(kRoot, Id(file), operation.offset, operation.length);
  const std::string wrong = Met(punched, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  // The size stays, and stays as stable as it was.
  node.older.erase(node.older.lower_bound(operation.offset / kBlock),
                   node.older.lower_bound(BlocksOf(operation.offset + operation.length)));
  node.older_mtimes.clear();
  return CheckChanged(file);
}

std::string FileRun::Allocate(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  const bool keep_size = operation.draw % 2 == 0;
  const auto allocated =
      engine_->Allocate(kRoot, Id(file), operation.offset, operation.length, keep_size);
  const std::string wrong = Met(allocated, std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  ModelNode& node = model_.nodes.at(file);
  if (!keep_size && operation.offset + operation.length > node.size) {
    node.Resize(operation.offset + operation.length);
  }
  node.mtime_ns = clock_.RealtimeNs();
  node.older_mtimes.clear();
  return CheckChanged(file);
}

std::string FileRun::Seek(const Operation& operation) {
  const std::uint64_t file = FileAt(operation);
  if (file == 0) return {};
  const ModelNode& node = model_.nodes.at(file);
  const bool want_data = operation.draw % 2 == 0;
  const auto found = engine_->Seek(Id(file), operation.offset, want_data);
  if (!found.has_value()) {
    if (found.error() != Errc::kOutOfRange) return Met(found, std::nullopt);
    const std::string rest = node.Content(operation.offset, node.size);
    const bool has_data = rest.find_first_not_of('\0') != std::string::npos;
    if (has_data || (!want_data && !rest.empty())) return "seek finds nothing";
    return {};
  }
  const std::uint64_t at = found.value();
  if (at < operation.offset || at > node.size) return "seek leaves the range";
  // Data may lie in zeroes, a hole never in data.
  const std::string zeroes = want_data ? node.Content(operation.offset, at - operation.offset)
                                       : node.Content(at, kBlock - at % kBlock);
  const bool is_zero = zeroes.find_first_not_of('\0') == std::string::npos;
  return is_zero ? "" : "seek takes data for a hole";
}

std::string FileRun::ReadDirectory(const Operation& operation) {
  const std::uint64_t directory = DirectoryAt(operation.from);
  const std::string wrong = CheckEntries(directory);
  const auto& entries = model_.nodes.at(directory).entries;
  if (!wrong.empty() || entries.empty()) return wrong;
  auto after = entries.begin();
  std::advance(after, static_cast<std::ptrdiff_t>(operation.draw % entries.size()));
  std::set<std::string> expected;
  for (const auto& [name, entry] : entries) {
    if (entry.cookie > after->second.cookie) expected.insert(name);
  }
  std::set<std::string> found;
  const auto read =
      engine_->ReadDirectory(Id(directory), after->second.cookie, [&](const DirectoryEntry& entry) {
        found.insert(entry.name);
        return true;
      });
  if (!read.has_value()) return Met(read, std::nullopt);
  return found == expected ? "" : "a directory read from a cookie lists other names";
}

std::string FileRun::Lookup(const Operation& operation) {
  const std::uint64_t directory = DirectoryAt(operation.from);
  const std::string name = NameAt(operation.from, operation.draw);
  const std::uint64_t child = EntryOf(model_.nodes.at(directory), name);
  const auto found = engine_->Lookup(Id(directory), name);
  const std::string wrong =
      Met(found, child == 0 ? std::optional<Errc>(Errc::kNotFound) : std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  return found.value().id == Id(child) ? "" : "lookup finds another node";
}

std::string FileRun::Hold(const Operation& operation) {
  std::uint64_t inode = FileAt(operation);
  if (operation.draw % 5 == 0) inode = NodeAt(operation);
  if (inode == 0) return {};
  const std::string wrong = Met(engine_->Hold(Id(inode)), std::nullopt);
  if (wrong.empty() && is_done_) ++model_.holds[inode];
  return wrong;
}

std::string FileRun::Release(const Operation& operation) {
  if (model_.holds.empty()) return {};
  auto held = model_.holds.begin();
  std::advance(held, static_cast<std::ptrdiff_t>(operation.draw % model_.holds.size()));
  const std::uint64_t inode = held->first;
  engine_->Release(Id(inode));
  if (--held->second > 0) return {};
  model_.holds.erase(held);
  model_.DropIfGone(inode);
  if (model_.nodes.contains(inode)) return {};
  const auto gone = engine_->GetAttributes(Id(inode));
  if (gone.has_value()) return "a node without names lives on after its release";
  return Met(gone, Errc::kStaleHandle);
}

std::string FileRun::SyncAll() {
  const std::string wrong = Met(engine_->SyncAll(), std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  for (auto& [inode, node] : model_.nodes) node.SettleAll();
  return {};
}

std::string FileRun::Remount() {
  const std::string wrong = Met(engine_->Unmount(), std::nullopt);
  if (!wrong.empty() || !is_done_) return wrong;
  engine_.reset();
  for (auto& [inode, node] : model_.nodes) node.SettleAll();
  model_.ForgetHolds();
  const std::string mounted = Mount();
  if (!mounted.empty()) {
    has_failed_ = may_fail_;
    return may_fail_ ? "" : mounted;
  }
  const auto found = ReadModel(*engine_);
  if (!found.has_value()) return Met(found, std::nullopt);
  return Difference(found.value(), model_, true);
}

}  // namespace filer::engine::sim
