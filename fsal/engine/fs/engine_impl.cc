#include "fsal/engine/fs/engine_impl.h"

#include <algorithm>

#include "base/assert.h"
#include "base/units.h"

namespace filer::engine {

EngineImpl::EngineImpl(BlockDevice& device, const Clock& clock, const MountOptions& options,
                       std::unique_ptr<Store> store)
    : shared_(device, clock, options, std::move(store)),
      buffers_(shared_),
      systems_(shared_, buffers_),
      handles_(shared_.key, shared_.geometry.volume_uuid),
      background_(shared_, systems_),
      scrubber_(shared_, [this](std::uint64_t inode) {
        auto path = PathOf({kRootFileset, 0, inode});
        return path.has_value() ? std::move(path).value() : std::string();
      }) {
  buffers_.write_back_some = [this] {
    for (FileSystem* const system : systems_.Live()) system->data.WriteBackOld(0);
  };
}

Result<void> EngineImpl::Start(std::int64_t begin_ns) {
  shared_.allocator.Start(shared_.store->UsedBlocks());
  FILER_TRY(systems_.Start());
  background_.Start();
  mount_ns_ = shared_.clock.MonotonicNs() - begin_ns;
  scrubber_.Resume();
  return Ok();
}

Result<void> EngineImpl::Unmount() {
  scrubber_.Unmount();
  background_.Stop();
  FILER_TRY(SyncAll());
  if (!shared_.options.read_only) {
    for (FileSystem* const system : systems_.Live()) system->data.ReclaimQueued();
    FILER_TRY(shared_.Sync(shared_.store->LastLsn()));
  }
  return shared_.store->Close();
}

std::array<std::uint8_t, 16> EngineImpl::VolumeUuid() const {
  std::array<std::uint8_t, 16> uuid;
  std::copy_n(shared_.geometry.volume_uuid, uuid.size(), uuid.begin());
  return uuid;
}

Result<std::reference_wrapper<FileSystem>> EngineImpl::Of(NodeId node) {
  if (FileSystems::IsSnapshots(node)) {
    return Error(Errc::kReadOnly, "the folder of snapshots is changed by filer snapshot only");
  }
  return std::ref(*FILER_TRY(systems_.Find(node)));
}

Result<void> EngineImpl::Access(const Caller& caller, NodeId node, std::uint32_t mask) {
  if (!FileSystems::IsSnapshots(node)) {
    return FILER_TRY(Of(node)).get().attributes.Access(caller, node, mask);
  }
  const Attributes folder = FILER_TRY(GetAttributes(node));
  const AclSubject subject{folder.kind, folder.mode, folder.uid, folder.gid};
  const bool may = caller.is_trusted || IsAllowed(caller, subject, Acl{}, mask);
  return may ? Result<void>(Ok()) : Result<void>(Errc::kAccessDenied);
}

Result<void> EngineImpl::AccessToRemove(const Caller& caller, NodeId directory, NodeId node) {
  // Nobody may: Remove and Rename say so.
  if (FileSystems::IsSnapshots(directory) || FileSystems::IsSnapshots(node)) return Ok();
  return FILER_TRY(Of(directory)).get().attributes.AccessToRemove(caller, directory, node);
}

Result<Attributes> EngineImpl::Lookup(NodeId directory, std::string_view name) {
  if (FileSystems::IsSnapshots(directory)) {
    return systems_.LookupSnapshot(directory, name);
  }
  if (FileSystems::IsSnapshotsName(directory, name)) {
    return systems_.SnapshotsAttributes(directory);
  }
  return FILER_TRY(Of(directory)).get().names.Lookup(directory, name);
}

Result<Attributes> EngineImpl::LookupParent(NodeId directory) {
  if (FileSystems::IsSnapshots(directory)) return GetAttributes(FileSystems::LiveOf(directory));
  if (directory.snapshot != 0 && directory.inode == kRootInode) {
    FILER_TRY(systems_.Find(directory));
    return systems_.SnapshotsAttributes(directory);
  }
  return FILER_TRY(Of(directory)).get().names.LookupParent(directory);
}

Result<Created> EngineImpl::Create(const Caller& caller, NodeId directory, std::string_view name,
                                   const CreateOptions& options) {
  if (FileSystems::IsSnapshotsName(directory, name)) return Errc::kExists;
  return FILER_TRY(Of(directory)).get().names.Create(caller, directory, name, options);
}

Result<Attributes> EngineImpl::Link(const Caller& caller, NodeId node, NodeId directory,
                                    std::string_view name) {
  if (FileSystems::IsSnapshotsName(directory, name)) return Errc::kExists;
  FileSystem& of = FILER_TRY(Of(directory));
  if (&of != &FILER_TRY(Of(node)).get()) return Errc::kCrossesFileset;
  return of.names.Link(caller, node, directory, name);
}

Result<Removed> EngineImpl::Remove(const Caller& caller, NodeId directory, std::string_view name,
                                   RemoveKind kind) {
  if (FileSystems::IsSnapshotsName(directory, name)) return Errc::kNotPermitted;
  return FILER_TRY(Of(directory)).get().names.Remove(caller, directory, name, kind);
}

Result<void> EngineImpl::Rename(const Caller& caller, NodeId from_directory,
                                std::string_view from_name, NodeId to_directory,
                                std::string_view to_name, std::uint32_t flags) {
  if (FileSystems::IsSnapshotsName(from_directory, from_name) ||
      FileSystems::IsSnapshotsName(to_directory, to_name)) {
    return Errc::kNotPermitted;
  }
  FileSystem& of = FILER_TRY(Of(from_directory));
  if (&of != &FILER_TRY(Of(to_directory)).get()) return Errc::kCrossesFileset;
  return of.names.Rename(caller, from_directory, from_name, to_directory, to_name, flags);
}

Result<bool> EngineImpl::ReadDirectory(
    NodeId directory, std::uint64_t after,
    const std::function<bool(const DirectoryEntry& entry)>& visit) {
  if (FileSystems::IsSnapshots(directory)) {
    return systems_.ReadSnapshots(directory, after, visit);
  }
  return FILER_TRY(Of(directory)).get().names.ReadDirectory(directory, after, visit);
}

Result<std::string> EngineImpl::PathOf(NodeId node) {
  if (FileSystems::IsSnapshots(node)) {
    const auto of = FILER_TRY(PathOf(FileSystems::LiveOf(node)));
    return (of == "/" ? "" : of) + "/" + std::string(kSnapshotsName);
  }
  const auto path = FILER_TRY(FILER_TRY(Of(node)).get().names.PathOf(node));
  if (node.snapshot == 0) return path;
  return systems_.PathPrefix(node) + (path == "/" ? "" : path);
}

Result<void> EngineImpl::SyncAll() {
  for (FileSystem* const system : systems_.Live()) FILER_TRY(system->data.SyncAll());
  return Ok();
}

void EngineImpl::SetChangeListener(std::uint32_t door, ChangeListener listener) {
  FILER_ASSERT(door >= 1 && door <= kDoorsMax);
  const std::lock_guard lock(shared_.listener_mutex);
  auto& entered = shared_.listeners[door];
  if (entered != nullptr) shared_.listener_count.fetch_sub(1, std::memory_order_release);
  entered = listener ? std::make_shared<const ChangeListener>(std::move(listener)) : nullptr;
  if (entered != nullptr) shared_.listener_count.fetch_add(1, std::memory_order_release);
}

Result<FileSystemStatus> EngineImpl::GetStatus(NodeId below) {
  FileSystemStatus status;
  status.total_bytes = shared_.allocator.total() * kBlockBytes;
  const std::uint64_t free = shared_.allocator.free() + shared_.allocator.pending();
  const std::uint64_t reserved = shared_.allocator.reserved();
  status.free_bytes = (free > reserved ? free - reserved : 0) * kBlockBytes;
  const std::uint64_t held_back = shared_.allocator.held_back() * kBlockBytes;
  status.available_bytes = status.free_bytes > held_back ? status.free_bytes - held_back : 0;
  const std::uint64_t inodes = shared_.counters.inodes.load();
  status.free_nodes = status.available_bytes / kBlockBytes;
  status.total_nodes = inodes + status.free_nodes;
  status.fsid = VolumeFsid(shared_.geometry, kRootFileset, 0);
  if (below.inode == 0 || FileSystems::IsSnapshots(below)) return status;
  FILER_TRY(FILER_TRY(Of(below)).get().quotas.Narrow(below, status));
  return status;
}

void EngineImpl::ReadAsync(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                           std::function<void(Result<ReadResult>)> done) {
  const auto of = systems_.Find(node);
  if (!of.has_value()) return done(of.error());
  FileData& data = of.value()->data;
  auto cached = data.TryReadCached(node, offset_bytes, length_bytes);
  if (cached.has_value()) return done(std::move(*cached));
  background_.Post(
      [&data, node, offset_bytes, length_bytes, done = std::move(done), door = CurrentDoor()] {
        SetDoor(door);
        done(data.Read(node, offset_bytes, length_bytes, AccessTime::kTouch));
      });
}

void EngineImpl::WriteAsync(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                            Stability stability, std::function<void(Result<WriteResult>)> done,
                            QuotaRule rule) {
  const auto of = systems_.Find(node);
  if (!of.has_value()) return done(of.error());
  FileData& files = of.value()->data;
  if (stability == Stability::kUnstable) {
    return done(files.Write(node, offset_bytes, data, stability, rule));
  }
  std::vector<iovec> segments(data.begin(), data.end());
  background_.Post([&files, node, offset_bytes, segments = std::move(segments), stability, rule,
                    done = std::move(done), door = CurrentDoor()] {
    SetDoor(door);
    done(files.Write(node, offset_bytes, segments, stability, rule));
  });
}

EngineCounters EngineImpl::Counters() const {
  const VolumeCounters& from = shared_.counters;
  const StoreCounters store = shared_.store->Counters();
  EngineCounters counters;
  counters.reads = from.reads.load();
  counters.read_bytes = from.read_bytes.load();
  counters.writes = from.writes.load();
  counters.write_bytes = from.write_bytes.load();
  counters.commits = from.commits.load();
  counters.metadata_changes = from.metadata_changes.load();
  counters.copied_read_bytes = from.copied_read_bytes.load();
  counters.copied_write_bytes = from.copied_write_bytes.load();
  counters.cache_hit_blocks = from.cache_hit_blocks.load();
  counters.cache_miss_blocks = from.cache_miss_blocks.load();
  counters.dirty_bytes = from.dirty_bytes.load();
  counters.cached_bytes = from.cached_bytes.load();
  counters.log_groups = store.groups;
  counters.log_transactions = store.commits;
  counters.checkpoints = store.checkpoints;
  counters.recovered_groups = store.recovered_groups;
  counters.free_blocks = shared_.allocator.free();
  counters.inodes = from.inodes.load();
  for (const FileSystem* const system : systems_.Live()) {
    counters.quota_limited_ids += system->volume.quotas.limited_count();
    counters.quota_refusals += system->volume.quotas.refusals();
  }
  return counters;
}

}  // namespace filer::engine
