// engine_impl.h: the Engine of engine.h, put together from its parts. Each call goes to the fileset
// or snapshot that its node is of; the folder `.snapshot` is answered here.
#pragma once

#include "fsal/engine/engine.h"
#include "fsal/engine/fs/background.h"
#include "fsal/engine/fs/file_systems.h"
#include "fsal/engine/fs/handle.h"
#include "fsal/engine/fs/lock_table.h"
#include "fsal/engine/fs/scrub.h"

namespace filer::engine {

class EngineImpl final : public Engine {
 public:
  EngineImpl(BlockDevice& device, const Clock& clock, const MountOptions& options,
             std::unique_ptr<Store> store);

  // The mount has begun at `begin_ns` of the clock.
  Result<void> Start(std::int64_t begin_ns);

  Result<void> Unmount() override;
  NodeId Root() const override { return {kRootFileset, 0, kRootInode}; }
  std::string VolumeName() const override { return shared_.store->VolumeName(); }
  std::array<std::uint8_t, 16> VolumeUuid() const override;
  Filesets& AllFilesets() override { return systems_; }

  Result<Attributes> Lookup(NodeId directory, std::string_view name) override;
  Result<Attributes> LookupParent(NodeId directory) override;
  Result<Created> Create(const Caller& caller, NodeId directory, std::string_view name,
                         const CreateOptions& options) override;
  Result<Attributes> Link(const Caller& caller, NodeId node, NodeId directory,
                          std::string_view name) override;
  Result<Removed> Remove(const Caller& caller, NodeId directory, std::string_view name,
                         RemoveKind kind) override;
  Result<void> Rename(const Caller& caller, NodeId from_directory, std::string_view from_name,
                      NodeId to_directory, std::string_view to_name, std::uint32_t flags) override;
  Result<std::string> ReadLink(NodeId node) override {
    return FILER_TRY(Of(node)).get().names.ReadLink(node);
  }
  Result<bool> ReadDirectory(
      NodeId directory, std::uint64_t after,
      const std::function<bool(const DirectoryEntry& entry)>& visit) override;
  Result<std::string> PathOf(NodeId node) override;

  Result<Attributes> GetAttributes(NodeId node) override {
    if (FileSystems::IsSnapshots(node)) return systems_.SnapshotsAttributes(node);
    return FILER_TRY(Of(node)).get().attributes.Get(node);
  }
  Result<Attributes> SetAttributes(const Caller& caller, NodeId node,
                                   const AttributeChange& change) override {
    return FILER_TRY(Of(node)).get().attributes.Set(caller, node, change);
  }
  Result<void> DropPrivileges(const Caller& caller, NodeId node) override {
    return FILER_TRY(Of(node)).get().attributes.DropPrivileges(caller, node);
  }
  Result<FileSystemStatus> GetStatus(NodeId below) override;
  Result<Acl> GetAcl(NodeId node) override {
    if (FileSystems::IsSnapshots(node)) return Acl{};
    return FILER_TRY(Of(node)).get().attributes.GetAcl(node);
  }
  Result<void> Access(const Caller& caller, NodeId node, std::uint32_t mask) override;
  Result<void> AccessToRemove(const Caller& caller, NodeId directory, NodeId node) override;
  Result<std::string> GetXattr(NodeId node, std::string_view name) override {
    if (FileSystems::IsSnapshots(node)) return Errc::kNoAttribute;
    return FILER_TRY(Of(node)).get().attributes.GetXattr(node, name);
  }
  Result<void> SetXattr(const Caller& caller, NodeId node, std::string_view name,
                        std::string_view value, XattrMode mode) override {
    return FILER_TRY(Of(node)).get().attributes.SetXattr(caller, node, name, value, mode);
  }
  Result<void> RemoveXattr(const Caller& caller, NodeId node, std::string_view name) override {
    return FILER_TRY(Of(node)).get().attributes.RemoveXattr(caller, node, name);
  }
  Result<std::vector<std::string>> ListXattrs(NodeId node) override {
    if (FileSystems::IsSnapshots(node)) return std::vector<std::string>();
    return FILER_TRY(Of(node)).get().attributes.ListXattrs(node);
  }

  Result<void> Hold(NodeId node) override {
    if (FileSystems::IsSnapshots(node)) return Ok();
    return FILER_TRY(Of(node)).get().names.Hold(node);
  }
  void Release(NodeId node) override {
    if (FileSystems::IsSnapshots(node)) return;
    const auto of = systems_.Find(node);
    if (of.has_value()) of.value()->names.Release(node);
  }

  Result<ReadResult> Read(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                          AccessTime access_time) override {
    return FILER_TRY(Of(node)).get().data.Read(node, offset_bytes, length_bytes, access_time);
  }
  Result<WriteResult> Write(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                            Stability stability, QuotaRule rule) override {
    return FILER_TRY(Of(node)).get().data.Write(node, offset_bytes, data, stability, rule);
  }
  void ReadAsync(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                 std::function<void(Result<ReadResult>)> done) override;
  void WriteAsync(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                  Stability stability, std::function<void(Result<WriteResult>)> done,
                  QuotaRule rule) override;
  Result<WriteVerifier> Commit(NodeId node, std::uint64_t offset_bytes,
                               std::uint64_t length_bytes) override {
    return FILER_TRY(Of(node)).get().data.Commit(node, offset_bytes, length_bytes);
  }
  WriteVerifier Verifier() const override { return shared_.Verifier(); }
  Result<void> SyncAll() override;
  Result<void> Deallocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                          std::uint64_t length_bytes) override {
    static_cast<void>(caller);  // write access is the door's question
    return FILER_TRY(Of(node)).get().data.Deallocate(node, offset_bytes, length_bytes);
  }
  Result<void> Allocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                        std::uint64_t length_bytes, bool keep_size) override {
    return FILER_TRY(Of(node)).get().data.Allocate(node, offset_bytes, length_bytes, keep_size,
                                                   QuotaRuleOf(caller));
  }
  Result<std::uint64_t> Seek(NodeId node, std::uint64_t offset_bytes, bool want_data) override {
    return FILER_TRY(Of(node)).get().data.Seek(node, offset_bytes, want_data);
  }

  Result<Quota> GetQuota(QuotaKind kind, std::uint32_t id, std::uint32_t fileset) override {
    return FILER_TRY(Live(fileset)).get().quotas.Get({kind, id});
  }
  Result<void> SetQuota(const Caller& caller, QuotaKind kind, std::uint32_t id,
                        const QuotaLimits& limits, std::uint32_t fileset) override {
    return FILER_TRY(Live(fileset)).get().quotas.Set(caller, {kind, id}, limits);
  }
  Result<void> ListQuotas(QuotaKind kind, std::uint32_t first_id,
                          const std::function<bool(const Quota& quota)>& visit,
                          std::uint32_t fileset) override {
    return FILER_TRY(Live(fileset)).get().quotas.List(kind, first_id, visit);
  }
  Result<QuotaGrace> GetQuotaGrace(QuotaKind kind, std::uint32_t fileset) override {
    if (static_cast<std::size_t>(kind) >= kQuotaKinds) return Errc::kInvalidArgument;
    return FILER_TRY(Live(fileset)).get().volume.quotas.GraceOf(kind);
  }
  Result<void> SetQuotaGrace(const Caller& caller, QuotaKind kind, QuotaGrace grace,
                             std::uint32_t fileset) override {
    return FILER_TRY(Live(fileset)).get().quotas.SetGrace(caller, kind, grace);
  }
  Result<void> SetProject(const Caller& caller, NodeId node, std::uint32_t project,
                          bool inherits) override {
    return FILER_TRY(Of(node)).get().quotas.SetProject(caller, node, project, inherits);
  }
  Result<void> SetProjectBelow(const Caller& caller, NodeId directory, std::uint32_t project,
                               std::size_t nodes_max, ProjectWalk& walk) override {
    return FILER_TRY(Of(directory))
        .get()
        .quotas.SetProjectBelow(caller, directory, project, nodes_max, walk);
  }

  Result<std::optional<LockConflict>> Lock(NodeId node, std::string_view owner,
                                           const LockRange& range) override {
    FILER_TRY(GetAttributes(node));
    return locks_.Lock(node, owner, range);
  }
  Result<std::optional<LockConflict>> TestLock(NodeId node, std::string_view owner,
                                               const LockRange& range) override {
    FILER_TRY(GetAttributes(node));
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
  void SetChangeListener(std::uint32_t door, ChangeListener listener) override;
  Result<void> StartScrub(const ScrubOptions& options) override { return scrubber_.Start(options); }
  ScrubStatus GetScrubStatus() const override { return scrubber_.Status(); }
  Result<void> StopScrub() override { return scrubber_.Stop(); }
  EngineCounters Counters() const override;
  EngineStatistics Statistics() const override {
    EngineStatistics statistics = StatisticsOf(shared_);
    statistics.mount_ns = mount_ns_;
    return statistics;
  }
  Result<void> Health() const override { return shared_.store->Health(); }

 private:
  // The fileset or snapshot; nothing is to be done to the folder of snapshots. Errors:
  // kStaleHandle, kNotPermitted.
  Result<std::reference_wrapper<FileSystem>> Of(NodeId node);
  // Errors: kStaleHandle.
  Result<std::reference_wrapper<FileSystem>> Live(std::uint32_t fileset) {
    return Of(Filesets::Root(fileset));
  }

  SharedVolume shared_;
  BufferSource buffers_;
  FileSystems systems_;
  LockTable locks_;
  HandleCodec handles_;
  std::int64_t mount_ns_ = 0;
  Background background_;  // last: its threads use the others
  Scrubber scrubber_;      // as background_
};

}  // namespace filer::engine
