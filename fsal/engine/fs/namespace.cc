#include "fsal/engine/fs/namespace.h"

#include <algorithm>

#include "fsal/engine/fs/acl.h"
#include "fsal/engine/fs/file_data.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kSetGid = 02000, kSticky = 01000;
constexpr std::uint32_t kOrdinalMax = 0xfffffffe;
constexpr int kLookupRetries = 16;
constexpr std::size_t kEntriesPerScan = 128;

std::string JoinUpwards(const std::vector<std::string>& names) {
  if (names.empty()) return "/";
  std::string path;
  for (auto at = names.rbegin(); at != names.rend(); ++at) path.append("/").append(*at);
  return path;
}

}  // namespace

bool IsPrivileged(const Caller& caller) { return caller.is_trusted || caller.uid == 0; }

bool PassesSticky(const Caller& caller, const InodeRecord& directory, const InodeRecord& child) {
  return (directory.mode & kSticky) == 0 || IsPrivileged(caller) || caller.uid == child.uid ||
         caller.uid == directory.uid;
}

bool IsSameProject(const InodeRecord& directory, const InodeRecord& child) {
  return !directory.inherits_project || directory.project == child.project;
}

Result<NodePtr> Namespace::GetDirectory(NodeId id) {
  NodePtr node = FILER_TRY(volume_.GetNode(id));
  if (!node->IsDirectory()) return Errc::kNotDirectory;
  return node;
}

Result<std::optional<FoundEntry>> Namespace::Find(std::uint64_t directory, std::string_view name,
                                                  std::uint32_t* next_ordinal) const {
  const std::uint64_t hash = NameHash(volume_.key, name);
  std::optional<FoundEntry> found;
  std::uint32_t next = 0;
  bool is_corrupt = false;
  FILER_TRY(volume_.store->Scan(NameKey(directory, hash, 0), NameKey(directory, hash, 0xffffffff),
                                [&](std::string_view key, std::string_view value) {
                                  auto decoded = DecodeName(value);
                                  if (!decoded.has_value() || key.size() != 21) {
                                    is_corrupt = true;
                                    return false;
                                  }
                                  std::uint32_t ordinal = 0;
                                  for (const char byte : key.substr(17))
                                    ordinal = ordinal << 8 | static_cast<std::uint8_t>(byte);
                                  if (ordinal == next)
                                    ++next;  // in order: `next` becomes the first gap
                                  if (decoded.value().entry.name != name) return true;
                                  found = FoundEntry{std::move(decoded).value(), hash, ordinal};
                                  return next_ordinal !=
                                         nullptr;  // to the end if an ordinal is wanted
                                }));
  if (is_corrupt || next > kOrdinalMax)
    return Error(Errc::kCorrupt, "an index of names is damaged");
  if (next_ordinal != nullptr) *next_ordinal = next;
  return found;
}

Result<Attributes> Namespace::Lookup(NodeId directory, std::string_view name) {
  FILER_TRY(ValidateName(name));
  const NodePtr parent = FILER_TRY(GetDirectory(directory));
  for (int attempt = 0; attempt < kLookupRetries; ++attempt) {
    {
      const std::lock_guard lock(parent->mutex);
      if (parent->is_dead) return Errc::kStaleHandle;
    }
    const auto found = FILER_TRY(Find(parent->inode, name));
    if (!found.has_value()) return Errc::kNotFound;
    const auto child = volume_.nodes.Get(*volume_.store, found->value.entry.child);
    if (!child.has_value()) {
      if (child.error() == Errc::kStaleHandle) continue;  // removed in between
      return child.error();
    }
    const std::lock_guard lock(child.value()->mutex);
    if (child.value()->is_dead || child.value()->record.links == 0) continue;
    return volume_.AttributesOf(*child.value());
  }
  return Errc::kNotFound;
}

Result<Attributes> Namespace::LookupParent(NodeId directory) {
  const NodePtr node = FILER_TRY(GetDirectory(directory));
  std::uint64_t parent = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    parent = node->inode == kRootInode ? kRootInode : node->record.parent;
  }
  const NodePtr up = FILER_TRY(volume_.nodes.Get(*volume_.store, parent));
  const std::lock_guard lock(up->mutex);
  if (up->is_dead) return Errc::kStaleHandle;
  return volume_.AttributesOf(*up);
}

Result<std::uint64_t> Namespace::AddEntry(Transaction& transaction, Staged& directory,
                                          std::string_view name, const EntryValue& entry) {
  std::uint32_t ordinal = 0;
  FILER_TRY(Find(directory.node->inode, name, &ordinal));
  const std::uint64_t cookie = volume_.NextCookie(directory.record);
  NameValue index{cookie, entry};
  index.entry.name = std::string(name);
  transaction.Put(EntryKey(directory.node->inode, cookie), EncodeEntry(index.entry));
  transaction.Put(NameKey(directory.node->inode, NameHash(volume_.key, name), ordinal),
                  EncodeName(index));
  ++directory.record.entries;
  if (entry.kind == NodeKind::kDirectory) ++directory.record.links;
  volume_.TouchContent(directory.record);
  return cookie;
}

void Namespace::EraseEntry(Transaction& transaction, Staged& directory, const FoundEntry& entry) {
  transaction.Erase(EntryKey(directory.node->inode, entry.value.cookie));
  transaction.Erase(NameKey(directory.node->inode, entry.hash, entry.ordinal));
  if (directory.record.entries > 0) --directory.record.entries;
  if (entry.value.entry.kind == NodeKind::kDirectory && directory.record.links > 0) {
    --directory.record.links;
  }
  volume_.TouchContent(directory.record);
}

void Namespace::AddLink(Transaction& transaction, Staged& child, std::uint64_t parent,
                        std::uint64_t cookie) {
  InodeRecord& record = child.record;
  if (record.links == 1) {
    transaction.Put(ParentKey(child.node->inode, record.parent, record.parent_cookie), "");
  }
  ++record.links;
  transaction.Put(ParentKey(child.node->inode, parent, cookie), "");
}

// The P keys that are in the store (with what the transaction has changed so far applied) are the
// names of the file.
Result<void> Namespace::DropLink(Transaction& transaction, Staged& child, std::uint64_t parent,
                                 std::uint64_t cookie) {
  InodeRecord& record = child.record;
  const std::uint32_t links_before = record.links;
  if (links_before == 0) return Error(Errc::kCorrupt, "a name leads to a file without links");
  --record.links;
  if (links_before == 1) return Ok();
  transaction.Erase(ParentKey(child.node->inode, parent, cookie));
  if (record.links > 1) return Ok();
  const std::string dropped = ParentKey(child.node->inode, parent, cookie);
  std::optional<std::string> left;
  FILER_TRY(volume_.store->Scan(ParentKey(child.node->inode, 0, 0),
                                EndOfInode('P', child.node->inode),
                                [&](std::string_view key, std::string_view) {
                                  if (key == dropped) return true;
                                  left = std::string(key);
                                  return false;
                                }));
  if (!left.has_value()) return Error(Errc::kCorrupt, "the other name of a file is not recorded");
  record.parent = FILER_TRY(KeyInteger(*left, 1));
  record.parent_cookie = FILER_TRY(KeyInteger(*left, 2));
  transaction.Erase(*left);
  return Ok();
}

Result<InodeRecord> Namespace::NewRecord(const Caller& caller, const InodeRecord& directory,
                                         const CreateOptions& options) const {
  const AttributeChange& wish = options.attributes;
  const bool is_directory = options.kind == NodeKind::kDirectory;
  InodeRecord record;
  record.kind = options.kind;
  record.mode = wish.mode.value_or(0) & 07777;
  record.uid = wish.uid.value_or(caller.uid);
  record.gid = wish.gid.value_or((directory.mode & kSetGid) != 0 ? directory.gid : caller.gid);
  if (!IsPrivileged(caller)) {
    if (record.uid != caller.uid) return Errc::kNotPermitted;
    if (wish.gid.has_value() && record.gid != directory.gid && !IsInGroup(caller, record.gid)) {
      return Errc::kNotPermitted;
    }
    if (!is_directory && !IsInGroup(caller, record.gid)) record.mode &= ~kSetGid;
  }
  if (is_directory && (directory.mode & kSetGid) != 0) record.mode |= kSetGid;
  if (directory.inherits_project) {
    record.project = directory.project;
    record.inherits_project = is_directory;
  }
  record.links = is_directory ? 2 : 1;
  record.btime_ns = volume_.NowNs();
  if (wish.btime_ns.has_value()) record.btime_ns = *wish.btime_ns;
  volume_.TouchContent(record);
  record.atime_ns = record.mtime_ns;
  if (wish.atime_ns.has_value() && !wish.atime_now) record.atime_ns = *wish.atime_ns;
  if (wish.mtime_ns.has_value() && !wish.mtime_now) record.mtime_ns = *wish.mtime_ns;
  record.generation = volume_.epoch;
  if (options.kind == NodeKind::kFile && wish.size_bytes.has_value()) {
    if (*wish.size_bytes > kFileBytesMax) return Errc::kFileTooBig;
    record.size = *wish.size_bytes;
  }
  if (options.kind == NodeKind::kSymlink) record.symlink = std::string(options.symlink_target);
  if (options.kind == NodeKind::kBlockDevice || options.kind == NodeKind::kCharDevice) {
    record.device_major = options.device_major;
    record.device_minor = options.device_minor;
  }
  if (options.exclusive_verifier.has_value()) {
    record.has_verifier = true;
    record.verifier = *options.exclusive_verifier;
  }
  return record;
}

// RFC 7530, 6.4.3; POSIX 1003.1e, 23.1.5.2. setuid, setgid and sticky bits are the record's.
Result<void> Namespace::StageNewAcl(const InodeRecord& directory, const CreateOptions& options,
                                    Staged& child) const {
  InodeRecord& record = child.record;
  const AttributeChange& wish = options.attributes;
  if (wish.acl.has_value()) {
    FILER_TRY(ValidateAcl(*wish.acl, options.kind));
    record.mode = ModeOf(*wish.acl, record.mode);
    child.acl = Simplified(*wish.acl, record.mode);
    return Ok();
  }
  const AclPtr acl = FILER_TRY(volume_.acls.Get(directory.acl));
  const std::optional<std::uint32_t> wanted =
      wish.mode.has_value() ? std::optional<std::uint32_t>(record.mode) : std::nullopt;
  Inherited inherited = Inherit(*acl, options.kind, wanted, options.umask);
  record.mode = (record.mode & 07000) | (inherited.mode & 0777);
  if (inherited.acl.kind != AclKind::kNone) child.acl = std::move(inherited.acl);
  return Ok();
}

// The name exists already. With the verifier of an exclusive create it may be the caller's own
// earlier try.
Result<Created> Namespace::MetExisting(NodePtr directory, const FoundEntry& found,
                                       const CreateOptions& options) {
  if (options.kind != NodeKind::kFile || !options.exclusive_verifier.has_value()) {
    return Errc::kExists;
  }
  const auto child = volume_.nodes.Get(*volume_.store, found.value.entry.child);
  if (!child.has_value()) return Errc::kExists;
  Created created;
  Lsn lsn = 0;
  {
    const NodeLocks locks{directory.get(), child.value().get()};
    const InodeRecord& record = child.value()->record;
    if (record.kind != NodeKind::kFile || !record.has_verifier ||
        record.verifier != *options.exclusive_verifier) {
      return Errc::kExists;
    }
    created.node = volume_.AttributesOf(*child.value());
    created.directory = volume_.AttributesOf(*directory);
    created.existed = true;
    lsn = std::max(child.value()->last_lsn, directory->last_lsn);
  }
  FILER_TRY(volume_.Sync(lsn));  // the first try may have been answered by nobody yet
  return created;
}

Result<Created> Namespace::Create(const Caller& caller, NodeId directory, std::string_view name,
                                  const CreateOptions& options) {
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateName(name));
  if (options.kind == NodeKind::kSymlink) {
    if (options.symlink_target.empty()) return Errc::kInvalidArgument;
    if (options.symlink_target.size() > kSymlinkBytesMax) return Errc::kNameTooLong;
    if (options.symlink_target.find('\0') != std::string_view::npos) return Errc::kInvalidArgument;
  }
  const NodePtr parent = FILER_TRY(GetDirectory(directory));
  const std::uint64_t inode = FILER_TRY(volume_.NewInode());
  auto child =
      std::make_shared<Node>(inode, options.kind);  // only to be staged; the cache makes its own
  Created created;
  Lsn lsn = 0;
  std::unique_lock lock(parent->mutex);
  if (parent->is_dead) return Errc::kStaleHandle;
  if (parent->record.links == 0) return Errc::kNotFound;  // removed, held open
  const auto found = FILER_TRY(Find(parent->inode, name));
  if (found.has_value()) {
    lock.unlock();
    return MetExisting(parent, *found, options);
  }
  if (options.kind == NodeKind::kDirectory && parent->record.links >= kLinksMax) {
    return Errc::kTooManyLinks;
  }
  Staged staged_parent(*parent);
  Staged staged_child(*child);
  staged_child.record = FILER_TRY(NewRecord(caller, parent->record, options));
  staged_child.stable_size = staged_child.record.size;
  FILER_TRY(StageNewAcl(parent->record, options, staged_child));
  Transaction transaction;
  staged_child.record.parent = parent->inode;
  staged_child.record.parent_cookie =
      FILER_TRY(AddEntry(transaction, staged_parent, name, {inode, options.kind, {}}));
  transaction.CountFiles(1);
  staged_child.is_new = true;
  staged_child.quota_rule = QuotaRuleOf(caller);
  lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged_parent, &staged_child}));
  created.node = volume_.AttributesOf(*child);
  created.directory = volume_.AttributesOf(*parent);
  lock.unlock();
  volume_.counters.inodes.fetch_add(1, std::memory_order_relaxed);
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{created.directory.id, name}});
  return created;
}

Result<Attributes> Namespace::Link(const Caller& caller, NodeId node, NodeId directory,
                                   std::string_view name) {
  static_cast<void>(
      caller);  // whether the caller may write into the directory is the door's question
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateName(name));
  const NodePtr parent = FILER_TRY(GetDirectory(directory));
  const NodePtr child = FILER_TRY(volume_.GetNode(node));
  if (child->IsDirectory()) return Errc::kNotPermitted;
  Attributes after;
  Lsn lsn = 0;
  {
    const NodeLocks locks{parent.get(), child.get()};
    if (parent->is_dead || child->is_dead) return Errc::kStaleHandle;
    if (parent->record.links == 0 || child->record.links == 0) return Errc::kNotFound;
    if (child->record.links >= kLinksMax) return Errc::kTooManyLinks;
    if (!IsSameProject(parent->record, child->record)) return Errc::kCrossesFileset;
    if (FILER_TRY(Find(parent->inode, name)).has_value()) return Errc::kExists;
    Staged staged_parent(*parent);
    Staged staged_child(*child);
    Transaction transaction;
    const std::uint64_t cookie = FILER_TRY(
        AddEntry(transaction, staged_parent, name, {child->inode, child->record.kind, {}}));
    AddLink(transaction, staged_child, parent->inode, cookie);
    volume_.TouchChange(staged_child.record);
    lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged_parent, &staged_child}));
    after = volume_.AttributesOf(*child);
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.NotifyChange({{directory, name}, {node, {}}});
  return after;
}

Result<Removed> Namespace::Remove(const Caller& caller, NodeId directory, std::string_view name,
                                  RemoveKind kind) {
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateName(name));
  const NodePtr parent = FILER_TRY(GetDirectory(directory));
  for (int attempt = 0; attempt < kLookupRetries; ++attempt) {
    const auto found = FILER_TRY(Find(parent->inode, name));
    if (!found.has_value()) return Errc::kNotFound;
    const auto got = volume_.nodes.Get(*volume_.store, found->value.entry.child);
    if (!got.has_value()) {
      if (got.error() == Errc::kStaleHandle) continue;
      return got.error();
    }
    const NodePtr& child = got.value();
    Removed removed;
    Lsn lsn = 0;
    {
      const NodeLocks locks{parent.get(), child.get()};
      if (parent->is_dead) return Errc::kStaleHandle;
      const auto again = FILER_TRY(Find(parent->inode, name));
      if (!again.has_value()) return Errc::kNotFound;
      if (again->value.entry.child != child->inode) continue;
      const bool is_directory = child->IsDirectory();
      if (is_directory && kind == RemoveKind::kNotDirectory) return Errc::kIsDirectory;
      if (!is_directory && kind == RemoveKind::kDirectory) return Errc::kNotDirectory;
      if (!PassesSticky(caller, parent->record, child->record)) return Errc::kNotPermitted;
      if (is_directory && child->record.entries != 0) return Errc::kNotEmpty;
      Staged staged_parent(*parent);
      Staged staged_child(*child);
      Transaction transaction;
      EraseEntry(transaction, staged_parent, *again);
      if (is_directory) {
        staged_child.record.links = 0;
      } else {
        FILER_TRY(DropLink(transaction, staged_child, parent->inode, again->value.cookie));
      }
      volume_.TouchChange(staged_child.record);
      removed.node = volume_.IdOf(*child);
      removed.last_link = staged_child.record.links == 0;
      if (removed.last_link) transaction.Put(OrphanKey(child->inode), "");
      lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged_parent, &staged_child}));
      if (removed.last_link && child->holds == 0) child->is_dead = true;
    }
    const Lsn reclaimed = data_.ReclaimIfDead(child);
    FILER_TRY(volume_.Sync(std::max(lsn, reclaimed)));
    volume_.NotifyChange({{directory, name}, {removed.node, {}}});
    return removed;
  }
  return Errc::kNotFound;
}

Result<std::string> Namespace::ReadLink(NodeId id) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  if (node->record.kind != NodeKind::kSymlink) return Errc::kInvalidArgument;
  data_.TouchAccessTime(node);
  return node->record.symlink;
}

Result<bool> Namespace::ReadDirectory(
    NodeId directory, std::uint64_t after,
    const std::function<bool(const DirectoryEntry& entry)>& visit) {
  const NodePtr node = FILER_TRY(GetDirectory(directory));
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    data_.TouchAccessTime(node);
  }
  std::vector<DirectoryEntry> batch;
  while (true) {
    if (after == UINT64_MAX) return true;
    batch.clear();
    bool is_corrupt = false;
    FILER_TRY(volume_.store->Scan(EntryKey(node->inode, after + 1), EndOfInode('D', node->inode),
                                  [&](std::string_view key, std::string_view value) {
                                    auto entry = DecodeEntry(value);
                                    const auto cookie = KeyInteger(key, 1);
                                    if (!entry.has_value() || !cookie.has_value()) {
                                      is_corrupt = true;
                                      return false;
                                    }
                                    EntryValue& found = entry.value();
                                    batch.push_back({std::move(found.name),
                                                     volume_.IdOf(found.child), cookie.value(),
                                                     found.kind});
                                    return batch.size() < kEntriesPerScan;
                                  }));
    for (const DirectoryEntry& entry : batch) {
      if (!visit(entry)) return false;
    }
    if (is_corrupt) return Error(Errc::kCorrupt, "a directory entry does not decode");
    if (batch.size() < kEntriesPerScan) return true;
    after = batch.back().cookie;
  }
}

Result<std::string> Namespace::PathOf(NodeId id) {
  constexpr int kDepthMax = 4096;
  std::vector<std::string> names;  // from there upwards
  std::uint64_t inode = id.inode;
  FILER_TRY(volume_.GetNode(id));
  for (int depth = 0; depth < kDepthMax; ++depth) {
    if (inode == kRootInode) return JoinUpwards(names);
    const NodePtr node = FILER_TRY(volume_.nodes.Get(*volume_.store, inode));
    std::uint64_t parent = 0;
    std::uint64_t cookie = 0;
    {
      const std::lock_guard lock(node->mutex);
      if (node->is_dead || node->record.links == 0) return Errc::kStaleHandle;
      parent = node->record.parent;
      cookie = node->record.parent_cookie;
      if (!node->IsDirectory() && node->record.links > 1) {
        FILER_TRY(volume_.store->Scan(
            ParentKey(inode, 0, 0), EndOfInode('P', inode),
            [&](std::string_view key, std::string_view) {
              parent = KeyInteger(key, 1).has_value() ? KeyInteger(key, 1).value() : 0;
              cookie = KeyInteger(key, 2).has_value() ? KeyInteger(key, 2).value() : 0;
              return false;
            }));
      }
    }
    const auto value = volume_.store->Get(EntryKey(parent, cookie));
    if (!value.has_value()) return value.error();  // kNotFound: moved in between
    names.push_back(FILER_TRY(DecodeEntry(value.value())).name);
    inode = parent;
  }
  return Error(Errc::kCorrupt, "directories form a ring");
}

Result<void> Namespace::Hold(NodeId id) {
  const NodePtr node = FILER_TRY(volume_.GetNode(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  ++node->holds;
  return Ok();
}

void Namespace::Release(NodeId id) {
  const auto node = volume_.GetNode(id);
  if (!node.has_value()) return;
  {
    const std::lock_guard lock(node.value()->mutex);
    if (node.value()->holds == 0 || --node.value()->holds > 0) return;
    if (node.value()->record.links > 0 || volume_.options.read_only) return;
    node.value()->is_dead = true;
  }
  data_.ReclaimIfDead(node.value());
}

}  // namespace filer::engine
