#include "fsal/engine/fs/file_systems.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/units.h"

namespace filer::engine {
namespace {

constexpr std::size_t kNodesInMemory = 200'000;
constexpr std::size_t kNodesInMemoryOfOthers = 20'000;  // other filesets, and snapshots

Error NoFileset() { return {Errc::kNotFound, "there is no such fileset"}; }
Error NoSnapshot() { return {Errc::kNotFound, "there is no such snapshot"}; }

}  // namespace

InodeRecord NewRoot(std::uint64_t mount_epoch, std::int64_t now_ns) {
  InodeRecord root;
  root.kind = NodeKind::kDirectory;
  root.mode = 0755;
  root.links = 2;
  root.parent = kRootInode;
  root.generation = mount_epoch;
  root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = now_ns;
  root.change = 1;
  root.next_cookie = 3;
  return root;
}

void PutRoot(const InodeRecord& root, Transaction& transaction) {
  transaction.Put(InodeKey(kRootInode), EncodeInode(root));
  transaction.Put(CounterKey(kInodeCounter), EncodeCounter(kFirstFreeInode));
  transaction.CountFiles(1);
  for (const QuotaId& of : QuotaIdsOf(root)) {
    if (IsCounted(of)) transaction.Add(QuotaKeyOf(QuotaPart::kUsage, of), {0, 1});
  }
}

Result<void> FileSystems::Start() {
  for (const TreeRecord& record : trees().List()) {
    if (record.kind != TreeKind::kLive) continue;
    FILER_TRY(OpenTree(record));
    shared_.counters.inodes.fetch_add(record.file_count);
  }
  for (FileSystem* const system : Live()) FILER_TRY(StartLive(*system));
  return Ok();
}

// A crash may have come between the making of a fileset and of its root.
Result<void> FileSystems::StartLive(FileSystem& system) {
  const auto root = system.volume.nodes.Get(*system.volume.store, kRootInode);
  const bool is_new = !root.has_value() && root.error() == Errc::kStaleHandle &&
                      system.volume.store->Counters().keys == 0 &&
                      system.volume.fileset != kRootFileset && !system.volume.options.read_only;
  if (is_new) {
    Transaction transaction;
    PutRoot(NewRoot(system.volume.epoch, shared_.clock.RealtimeNs()), transaction);
    FILER_TRY(shared_.Sync(FILER_TRY(system.volume.store->Commit(std::move(transaction)))));
    shared_.counters.inodes.fetch_add(1);
  } else if (root.has_error() && !(root.error() == Errc::kStaleHandle)) {
    return root.error();  // a root that cannot be read is not a root that is not there
  } else if (!root.has_value() || !root.value()->IsDirectory()) {
    return Error(Errc::kCorrupt,
                 "volume " + shared_.store->VolumeName() + ": there is no root directory");
  }
  FILER_TRY(system.volume.quotas.Load(*system.volume.store));
  if (!system.volume.options.read_only) FILER_TRY(system.data.FinishInterrupted());
  return Ok();
}

Result<FileSystem*> FileSystems::OpenTree(const TreeRecord& record) {
  const bool is_snapshot = record.kind == TreeKind::kSnapshot;
  const Key key{record.fileset, is_snapshot ? record.id : 0};
  const bool is_first = record.fileset == kRootFileset && !is_snapshot;
  auto view = FILER_TRY(trees().Open(record.id));
  auto system =
      std::make_unique<FileSystem>(shared_, record, std::move(view),
                                   is_first ? kNodesInMemory : kNodesInMemoryOfOthers, buffers_);
  FILER_TRY(system->data.Start());
  const std::unique_lock lock(mutex_);
  FileSystem* const opened = system.get();
  open_[key] = opened;
  all_.push_back(std::move(system));
  if (is_first) first_.store(opened, std::memory_order_release);
  return opened;
}

Result<FileSystem*> FileSystems::Find(NodeId id) {
  if (id.fileset == kRootFileset && id.snapshot == 0) return first();
  {
    const std::shared_lock lock(mutex_);
    const auto found = open_.find({id.fileset, id.snapshot});
    if (found != open_.end()) return found->second;
  }
  if (id.snapshot == 0) return Errc::kStaleHandle;
  const std::lock_guard lock(change_mutex_);
  {
    const std::shared_lock opened(mutex_);
    const auto found = open_.find({id.fileset, id.snapshot});
    if (found != open_.end()) return found->second;
  }
  const auto record = RecordOf(id.snapshot);
  if (!record.has_value() || record.value().kind != TreeKind::kSnapshot ||
      record.value().fileset != id.fileset) {
    return Errc::kStaleHandle;
  }
  return OpenTree(record.value());
}

std::vector<FileSystem*> FileSystems::Live() const {
  const std::shared_lock lock(mutex_);
  std::vector<FileSystem*> live;
  for (const auto& [key, system] : open_) {
    if (key.second == 0) live.push_back(system);
  }
  return live;
}

Result<bool> FileSystems::ReclaimSome() {
  if (!trees().HasReclaims()) return false;
  const auto done = FILER_TRY(trees().ReclaimSome());
  for (const BlockRun& run : done.freed) shared_.allocator.FreeAfter(done.lsn, run);
  if (done.lsn != 0) shared_.WakeBackground();
  return done.has_more;
}

// Nobody finds it any more; tells the doors of all that they may remember of it.
void FileSystems::Retire(FileSystem* gone) {
  if (gone == nullptr) return;
  gone->volume.is_retired.store(true, std::memory_order_release);
  std::vector<NodeId> ids;
  for (const NodePtr& node : gone->volume.nodes.All()) ids.push_back(gone->volume.IdOf(*node));
  gone->data.Abandon();
  for (const NodeId id : ids) shared_.NotifyChange({{id, {}}});
}

FileSystem* FileSystems::TakeOut(std::uint32_t fileset, std::uint32_t snapshot) {
  const std::unique_lock lock(mutex_);
  const auto found = open_.find({fileset, snapshot});
  if (found == open_.end()) return nullptr;
  FileSystem* const out = found->second;
  open_.erase(found);
  return out;
}

Result<TreeRecord> FileSystems::RecordOf(TreeId id) const {
  for (TreeRecord& record : trees().List()) {
    if (record.id == id) return std::move(record);
  }
  return NoSnapshot();
}

Result<TreeRecord> FileSystems::LiveRecord(std::uint32_t fileset) const {
  for (TreeRecord& record : trees().List()) {
    if (record.kind == TreeKind::kLive && record.fileset == fileset) return std::move(record);
  }
  return NoFileset();
}

std::vector<TreeRecord> FileSystems::SnapshotRecords(std::uint32_t fileset) const {
  auto records = trees().List();
  std::erase_if(records, [&](const TreeRecord& record) {
    return record.kind != TreeKind::kSnapshot || record.fileset != fileset;
  });
  std::ranges::sort(records, {}, &TreeRecord::epoch);
  return records;
}

std::uint64_t FileSystems::FsidOf(const TreeRecord& record) const {
  const std::uint32_t snapshot = record.kind == TreeKind::kSnapshot ? record.id : 0;
  return VolumeFsid(shared_.geometry, record.fileset, snapshot);
}

FilesetInfo FileSystems::InfoOf(const TreeRecord& record,
                                const std::vector<TreeRecord>& all) const {
  FilesetInfo info;
  info.id = record.fileset;
  info.name = record.name;
  info.fsid = FsidOf(record);
  info.files = record.file_count;
  info.made_ns = record.made_ns;
  const auto origin = std::ranges::find(all, record.origin, &TreeRecord::id);
  if (record.origin != 0 && origin != all.end()) {
    info.origin_fileset = origin->fileset;
    info.origin_snapshot = origin->id;
  }
  return info;
}

Result<SnapshotInfo> FileSystems::SnapshotInfoOf(const TreeRecord& record) const {
  SnapshotInfo info;
  info.id = record.id;
  info.fileset = record.fileset;
  info.name = record.name;
  info.fsid = FsidOf(record);
  info.files = record.file_count;
  info.made_ns = record.made_ns;
  info.holds = record.holds;
  info.unique_bytes = FILER_TRY(trees().UniqueBlocks(record.id)) * kBlockBytes;
  return info;
}

std::vector<FilesetInfo> FileSystems::List() const {
  const auto all = trees().List();
  std::vector<FilesetInfo> infos;
  for (const TreeRecord& record : all) {
    if (record.kind == TreeKind::kLive) infos.push_back(InfoOf(record, all));
  }
  std::ranges::sort(infos, {}, &FilesetInfo::id);
  return infos;
}

Result<FilesetInfo> FileSystems::Create(std::string_view name) {
  const std::lock_guard lock(change_mutex_);
  const TreeId id = FILER_TRY(trees().Create(name));
  const TreeRecord record = FILER_TRY(RecordOf(id));
  FILER_TRY(StartLive(*FILER_TRY(OpenTree(record))));
  return InfoOf(FILER_TRY(RecordOf(id)), {});
}

Result<void> FileSystems::Rename(std::uint32_t fileset, std::string_view name) {
  return trees().Rename(FILER_TRY(LiveRecord(fileset)).id, name);
}

Result<void> FileSystems::Delete(std::uint32_t fileset) {
  const std::lock_guard lock(change_mutex_);
  const TreeRecord record = FILER_TRY(LiveRecord(fileset));
  FILER_TRY(trees().Delete(record.id));
  shared_.counters.inodes.fetch_sub(record.file_count);
  Retire(TakeOut(fileset, 0));
  shared_.WakeBackground();
  return Ok();
}

Result<std::vector<SnapshotInfo>> FileSystems::ListSnapshots(std::uint32_t fileset) const {
  FILER_TRY(LiveRecord(fileset));
  std::vector<SnapshotInfo> infos;
  for (const TreeRecord& record : SnapshotRecords(fileset)) {
    auto info = SnapshotInfoOf(record);
    if (info.has_value()) {
      infos.push_back(std::move(info).value());
    } else if (info.error() != Errc::kNotFound) {  // deleted meanwhile
      return info.error();
    }
  }
  return infos;
}

Result<SnapshotInfo> FileSystems::MakeSnapshot(std::uint32_t fileset, std::string_view name) {
  const std::lock_guard lock(change_mutex_);
  const TreeRecord live = FILER_TRY(LiveRecord(fileset));
  FILER_TRY(FILER_TRY(Find(Filesets::Root(fileset)))->data.SyncAll());
  const TreeId id = FILER_TRY(trees().MakeSnapshot(live.id, name));
  TellOfSnapshots(fileset);
  return SnapshotInfoOf(FILER_TRY(RecordOf(id)));
}

Result<void> FileSystems::RenameSnapshot(std::uint32_t snapshot, std::string_view name) {
  const TreeRecord record = FILER_TRY(RecordOf(snapshot));
  if (record.kind != TreeKind::kSnapshot) return NoSnapshot();
  FILER_TRY(trees().Rename(snapshot, name));
  TellOfSnapshots(record.fileset);
  return Ok();
}

Result<void> FileSystems::HoldSnapshot(std::uint32_t snapshot, bool is_added) {
  return trees().Hold(snapshot, is_added);
}

Result<void> FileSystems::DeleteSnapshot(std::uint32_t snapshot) {
  const std::lock_guard lock(change_mutex_);
  const TreeRecord record = FILER_TRY(RecordOf(snapshot));
  if (record.kind != TreeKind::kSnapshot) return NoSnapshot();
  FILER_TRY(trees().Delete(snapshot));
  Retire(TakeOut(record.fileset, snapshot));
  TellOfSnapshots(record.fileset);
  shared_.WakeBackground();
  return Ok();
}

Result<void> FileSystems::RollBack(std::uint32_t fileset) {
  const std::lock_guard lock(change_mutex_);
  const TreeRecord before = FILER_TRY(LiveRecord(fileset));
  // Nothing is begun any more that would be acknowledged and then be gone.
  FileSystem* const old = FILER_TRY(Find(Filesets::Root(fileset)));
  old->volume.is_retired.store(true, std::memory_order_release);
  const auto rolled_back = trees().RollBack(before.id);
  if (!rolled_back.has_value()) {
    old->volume.is_retired.store(false, std::memory_order_release);
    return rolled_back.error();
  }
  const TreeRecord record = FILER_TRY(RecordOf(rolled_back.value()));
  shared_.counters.inodes.fetch_add(record.file_count - before.file_count);
  shared_.ChangeVerifier();
  FileSystem* const now = FILER_TRY(OpenTree(record));
  FILER_TRY(StartLive(*now));
  Retire(old);
  shared_.WakeBackground();
  return Ok();
}

Result<FilesetInfo> FileSystems::Clone(std::uint32_t snapshot, std::string_view name) {
  const std::lock_guard lock(change_mutex_);
  const TreeId id = FILER_TRY(trees().Clone(snapshot, name));
  const TreeRecord record = FILER_TRY(RecordOf(id));
  shared_.counters.inodes.fetch_add(record.file_count);
  FILER_TRY(StartLive(*FILER_TRY(OpenTree(record))));
  return InfoOf(FILER_TRY(RecordOf(id)), trees().List());
}

// .snapshot

void FileSystems::TellOfSnapshots(std::uint32_t fileset) {
  shared_.NotifyChange({{SnapshotsFolderOf(Filesets::Root(fileset)), {}}});
}

Result<Attributes> FileSystems::SnapshotsAttributes(NodeId of) {
  const NodeId live = LiveOf(of);
  const auto directory = FILER_TRY(FILER_TRY(Find(live))->attributes.Get(live));
  if (directory.kind != NodeKind::kDirectory) return Errc::kNotDirectory;
  Attributes attributes = directory;
  attributes.id = SnapshotsFolderOf(of);
  // Not the directory's: the same number twice would look like a ring of folders.
  attributes.fsid = VolumeFsid(shared_.geometry, of.fileset, kSnapshotsFolder);
  attributes.mode = directory.mode & 0555;
  attributes.acl = AclKind::kNone;
  attributes.links = 2;
  // Another value whenever a snapshot comes, goes or is renamed: the table's own ids and names.
  std::uint64_t change = 1;
  for (const TreeRecord& record : SnapshotRecords(of.fileset)) {
    ++attributes.links;
    attributes.mtime_ns = std::max(attributes.mtime_ns, record.made_ns);
    change = change * 1000003 + record.id * 31 + std::hash<std::string>{}(record.name);
  }
  attributes.ctime_ns = attributes.mtime_ns;
  attributes.change = change;
  return attributes;
}

Result<Attributes> FileSystems::LookupSnapshot(NodeId of, std::string_view name) {
  for (const TreeRecord& record : SnapshotRecords(of.fileset)) {
    if (record.name != name) continue;
    const NodeId then{of.fileset, record.id, of.inode};
    auto attributes = FILER_TRY(Find(then))->attributes.Get(then);
    if (attributes.has_value() || attributes.error() != Errc::kStaleHandle) return attributes;
    break;  // there was no such directory then
  }
  return Errc::kNotFound;
}

// The cookie is above 2 and grows.
Result<bool> FileSystems::ReadSnapshots(
    NodeId of, std::uint64_t after, const std::function<bool(const DirectoryEntry& entry)>& visit) {
  FILER_TRY(SnapshotsAttributes(of));
  for (const TreeRecord& record : SnapshotRecords(of.fileset)) {
    const std::uint64_t cookie = std::uint64_t{record.id} + 2;
    if (cookie <= after) continue;
    const auto then = LookupSnapshot(of, record.name);
    if (!then.has_value()) {
      if (then.error() == Errc::kNotFound || then.error() == Errc::kStaleHandle) continue;
      return then.error();
    }
    if (!visit({record.name, then.value().id, cookie, NodeKind::kDirectory})) return false;
  }
  return true;
}

std::string FileSystems::PathPrefix(NodeId id) const {
  if (id.snapshot == 0) return {};
  const auto record = RecordOf(id.snapshot);
  return "/" + std::string(kSnapshotsName) + "/" +
         (record.has_value() ? record.value().name : std::to_string(id.snapshot));
}

}  // namespace filer::engine
