// engine_impl.cc: the Engine of engine.h, put together from its parts.
#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/check/check.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/fs/attributes.h"
#include "fsal/engine/fs/background.h"
#include "fsal/engine/fs/extents.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/handle.h"
#include "fsal/engine/fs/lock_table.h"
#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {

class EngineImpl final : public Engine {
 public:
  EngineImpl(BlockDevice& device, const Clock& clock, const MountOptions& options,
             std::unique_ptr<Store> store)
      : volume_(device, clock, options, std::move(store)),
        data_(volume_),
        names_(volume_, data_),
        attributes_(volume_, data_),
        handles_(volume_.key, volume_.geometry.volume_uuid),
        background_(volume_, data_) {}

  Result<void> Start();

  Result<void> Unmount() override {
    background_.Stop();
    FILER_TRY(data_.SyncAll());
    if (!volume_.options.read_only) {
      data_.ReclaimQueued();
      FILER_TRY(volume_.Sync(volume_.store->LastLsn()));
    }
    return volume_.store->Close();
  }

  NodeId Root() const override { return {kRootFileset, 0, kRootInode}; }
  std::string VolumeName() const override { return volume_.store->VolumeName(); }
  std::array<std::uint8_t, 16> VolumeUuid() const override {
    std::array<std::uint8_t, 16> uuid;
    std::copy_n(volume_.geometry.volume_uuid, uuid.size(), uuid.begin());
    return uuid;
  }

  Result<Attributes> Lookup(NodeId directory, std::string_view name) override {
    return names_.Lookup(directory, name);
  }
  Result<Attributes> LookupParent(NodeId directory) override {
    return names_.LookupParent(directory);
  }
  Result<Created> Create(const Caller& caller, NodeId directory, std::string_view name,
                         const CreateOptions& options) override {
    return names_.Create(caller, directory, name, options);
  }
  Result<Attributes> Link(const Caller& caller, NodeId node, NodeId directory,
                          std::string_view name) override {
    return names_.Link(caller, node, directory, name);
  }
  Result<Removed> Remove(const Caller& caller, NodeId directory, std::string_view name,
                         RemoveKind kind) override {
    return names_.Remove(caller, directory, name, kind);
  }
  Result<void> Rename(const Caller& caller, NodeId from_directory, std::string_view from_name,
                      NodeId to_directory, std::string_view to_name, std::uint32_t flags) override {
    return names_.Rename(caller, from_directory, from_name, to_directory, to_name, flags);
  }
  Result<std::string> ReadLink(NodeId node) override { return names_.ReadLink(node); }
  Result<bool> ReadDirectory(
      NodeId directory, std::uint64_t after,
      const std::function<bool(const DirectoryEntry& entry)>& visit) override {
    return names_.ReadDirectory(directory, after, visit);
  }
  Result<std::string> PathOf(NodeId node) override { return names_.PathOf(node); }

  Result<Attributes> GetAttributes(NodeId node) override { return attributes_.Get(node); }
  Result<Attributes> SetAttributes(const Caller& caller, NodeId node,
                                   const AttributeChange& change) override {
    return attributes_.Set(caller, node, change);
  }
  Result<void> DropPrivileges(const Caller& caller, NodeId node) override {
    return attributes_.DropPrivileges(caller, node);
  }
  Result<FileSystemStatus> GetStatus() override;
  Result<std::string> GetXattr(NodeId node, std::string_view name) override {
    return attributes_.GetXattr(node, name);
  }
  Result<void> SetXattr(const Caller& caller, NodeId node, std::string_view name,
                        std::string_view value, XattrMode mode) override {
    return attributes_.SetXattr(caller, node, name, value, mode);
  }
  Result<void> RemoveXattr(const Caller& caller, NodeId node, std::string_view name) override {
    return attributes_.RemoveXattr(caller, node, name);
  }
  Result<std::vector<std::string>> ListXattrs(NodeId node) override {
    return attributes_.ListXattrs(node);
  }

  Result<void> Hold(NodeId node) override { return names_.Hold(node); }
  void Release(NodeId node) override { names_.Release(node); }

  Result<ReadResult> Read(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                          AccessTime access_time) override {
    return data_.Read(node, offset_bytes, length_bytes, access_time);
  }
  Result<WriteResult> Write(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                            Stability stability) override {
    return data_.Write(node, offset_bytes, data, stability);
  }
  void ReadAsync(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                 std::function<void(Result<ReadResult>)> done) override;
  void WriteAsync(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                  Stability stability, std::function<void(Result<WriteResult>)> done) override;
  Result<WriteVerifier> Commit(NodeId node, std::uint64_t offset_bytes,
                               std::uint64_t length_bytes) override {
    return data_.Commit(node, offset_bytes, length_bytes);
  }
  WriteVerifier Verifier() const override { return volume_.Verifier(); }
  Result<void> SyncAll() override { return data_.SyncAll(); }
  Result<void> Deallocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                          std::uint64_t length_bytes) override {
    static_cast<void>(caller);  // write access is the door's question
    return data_.Deallocate(node, offset_bytes, length_bytes);
  }
  Result<void> Allocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                        std::uint64_t length_bytes, bool keep_size) override {
    static_cast<void>(caller);
    return data_.Allocate(node, offset_bytes, length_bytes, keep_size);
  }
  Result<std::uint64_t> Seek(NodeId node, std::uint64_t offset_bytes, bool want_data) override {
    return data_.Seek(node, offset_bytes, want_data);
  }

  Result<std::optional<LockConflict>> Lock(NodeId node, std::string_view owner,
                                           const LockRange& range) override {
    FILER_TRY(attributes_.Get(node));
    return locks_.Lock(node, owner, range);
  }
  Result<std::optional<LockConflict>> TestLock(NodeId node, std::string_view owner,
                                               const LockRange& range) override {
    FILER_TRY(attributes_.Get(node));
    return locks_.Test(node, owner, range);
  }
  Result<void> Unlock(NodeId node, std::string_view owner, std::uint64_t offset_bytes,
                      std::uint64_t length_bytes) override {
    return locks_.Unlock(node, owner, offset_bytes, length_bytes);
  }
  void UnlockAll(NodeId node, std::string_view owner) override { locks_.UnlockAll(node, owner); }
  std::uint64_t WatchUnlocks(NodeId node, std::function<void()> wake) override {
    return locks_.Watch(node, std::move(wake));
  }
  void CancelWatch(std::uint64_t registration) override { locks_.CancelWatch(registration); }

  HandleBytes EncodeHandle(const Attributes& node, std::uint16_t export_id) const override {
    return handles_.Encode(node, export_id);
  }
  Result<DecodedHandle> DecodeHandle(std::span<const std::uint8_t> bytes) const override {
    return handles_.Decode(bytes);
  }
  void SetChangeListener(std::uint32_t door, ChangeListener listener) override {
    FILER_ASSERT(door >= 1 && door <= kDoorsMax);
    const std::lock_guard lock(volume_.listener_mutex);
    auto& entered = volume_.listeners[door];
    if (entered != nullptr) volume_.listener_count.fetch_sub(1, std::memory_order_release);
    entered = listener ? std::make_shared<const ChangeListener>(std::move(listener)) : nullptr;
    if (entered != nullptr) volume_.listener_count.fetch_add(1, std::memory_order_release);
  }
  EngineCounters Counters() const override;
  Result<void> Health() const override { return volume_.store->Health(); }

 private:
  Volume volume_;
  FileData data_;
  Namespace names_;
  AttributeOps attributes_;
  LockTable locks_;
  HandleCodec handles_;
  Background background_;  // last: its threads use the others
};

Result<void> EngineImpl::Start() {
  volume_.allocator.Start(volume_.store->UsedBlocks());
  volume_.counters.inodes = volume_.store->Counters().files;
  const auto root = volume_.nodes.Get(*volume_.store, kRootInode);
  if (!root.has_value() || !root.value()->IsDirectory()) {
    return Error(Errc::kCorrupt, "volume " + VolumeName() + ": there is no root directory");
  }
  FILER_TRY(data_.Start());
  if (!volume_.options.read_only) FILER_TRY(data_.FinishInterrupted());
  background_.Start();
  return Ok();
}

Result<FileSystemStatus> EngineImpl::GetStatus() {
  FileSystemStatus status;
  status.total_bytes = volume_.allocator.total() * kBlockBytes;
  const std::uint64_t free = volume_.allocator.free() + volume_.allocator.pending();
  const std::uint64_t reserved = volume_.allocator.reserved();
  status.free_bytes = (free > reserved ? free - reserved : 0) * kBlockBytes;
  const std::uint64_t held_back = volume_.allocator.held_back() * kBlockBytes;
  status.available_bytes = status.free_bytes > held_back ? status.free_bytes - held_back : 0;
  const std::uint64_t inodes = volume_.counters.inodes.load();
  status.free_nodes = status.available_bytes / kBlockBytes;
  status.total_nodes = inodes + status.free_nodes;
  status.fsid = volume_.Fsid();
  return status;
}

void EngineImpl::ReadAsync(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                           std::function<void(Result<ReadResult>)> done) {
  auto cached = data_.TryReadCached(node, offset_bytes, length_bytes);
  if (cached.has_value()) return done(std::move(*cached));
  background_.Post(
      [this, node, offset_bytes, length_bytes, done = std::move(done), door = CurrentDoor()] {
        SetDoor(door);
        done(data_.Read(node, offset_bytes, length_bytes, AccessTime::kTouch));
      });
}

void EngineImpl::WriteAsync(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                            Stability stability, std::function<void(Result<WriteResult>)> done) {
  if (stability == Stability::kUnstable) {
    return done(data_.Write(node, offset_bytes, data, stability));
  }
  std::vector<iovec> segments(data.begin(), data.end());
  background_.Post([this, node, offset_bytes, segments = std::move(segments), stability,
                    done = std::move(done), door = CurrentDoor()] {
    SetDoor(door);
    done(data_.Write(node, offset_bytes, segments, stability));
  });
}

EngineCounters EngineImpl::Counters() const {
  const VolumeCounters& from = volume_.counters;
  const StoreCounters store = volume_.store->Counters();
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
  counters.free_blocks = volume_.allocator.free();
  counters.inodes = from.inodes.load();
  return counters;
}

}  // namespace

Result<void> Engine::Format(BlockDevice& device, const FormatOptions& options) {
  StoreFormatOptions store_options;
  store_options.volume_name = options.volume_name;
  store_options.random_seed = options.random_seed;
  store_options.overwrite = options.overwrite;
  FILER_TRY(Store::Format(device, store_options));
  const Clock& clock = options.clock != nullptr ? *options.clock : SystemClock();
  const auto store = FILER_TRY(Store::Open(device, clock, false));
  InodeRecord root;
  root.kind = NodeKind::kDirectory;
  root.mode = 0755;
  root.links = 2;
  root.parent = kRootInode;
  root.generation = store->MountEpoch();
  root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = clock.RealtimeNs();
  root.change = 1;
  root.next_cookie = 3;
  Transaction transaction;
  transaction.Put(InodeKey(kRootInode), EncodeInode(root));
  transaction.Put(CounterKey(kInodeCounter), EncodeCounter(kFirstFreeInode));
  transaction.CountFiles(1);
  FILER_TRY(store->Sync(FILER_TRY(store->Commit(std::move(transaction)))));
  return store->Close();
}

Result<std::unique_ptr<Engine>> Engine::Mount(BlockDevice& device, const Clock& clock,
                                              const MountOptions& options) {
  MountOptions adjusted = options;
  if (device.Info().is_read_only) adjusted.read_only = true;
  StoreOpenOptions store_options;
  store_options.read_only = adjusted.read_only;
  store_options.run_of = RunOfPair;
  auto store = FILER_TRY(Store::Open(device, clock, store_options));
  auto engine = std::make_unique<EngineImpl>(device, clock, adjusted, std::move(store));
  FILER_TRY(engine->Start());
  return std::unique_ptr<Engine>(std::move(engine));
}

Result<CheckReport> Engine::Check(BlockDevice& device, bool verify_data) {
  StoreOpenOptions options;
  options.read_only = true;
  options.run_of = RunOfPair;
  options.must_walk = true;
  const auto store = FILER_TRY(Store::Open(device, SystemClock(), options));
  return CheckVolume(device, *store, verify_data);
}

}  // namespace filer::engine
