// file_systems.h: the filesets and snapshots of a mounted volume. Filesets are open from the mount
// on, snapshots from their first use.
//
// Threads: any. Find is a lock taken shared, but for the volume's first fileset, where it is a
// load. What was found stays valid until the end, also when it was deleted or rolled back
// meanwhile: it answers kStaleHandle then.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "fsal/engine/filesets.h"
#include "fsal/engine/fs/file_system.h"
#include "fsal/engine/tree/trees.h"

namespace filer::engine {

class FileSystems final : public Filesets {
 public:
  FileSystems(SharedVolume& shared, BufferSource& buffers) : shared_(shared), buffers_(buffers) {}

  // Opens all filesets and ends what a crash interrupted.
  Result<void> Start();

  FileSystem* first() const { return first_.load(std::memory_order_acquire); }
  // Errors: kStaleHandle.
  Result<FileSystem*> Find(NodeId id);
  // All that can be written to.
  std::vector<FileSystem*> Live() const;
  // Gives back some of what deleted trees held. False: nothing is left.
  Result<bool> ReclaimSome();

  // The folder `.snapshot` of a directory: made up, not stored. `of`: the directory, or the folder.
  static bool IsSnapshots(NodeId id) { return id.snapshot == kSnapshotsFolder; }
  static bool IsSnapshotsName(NodeId directory, std::string_view name) {
    return directory.snapshot == 0 && name == kSnapshotsName;
  }
  static NodeId LiveOf(NodeId of) { return {of.fileset, 0, of.inode}; }
  Result<Attributes> SnapshotsAttributes(NodeId of);
  Result<Attributes> LookupSnapshot(NodeId of, std::string_view name);
  Result<bool> ReadSnapshots(NodeId of, std::uint64_t after,
                             const std::function<bool(const DirectoryEntry& entry)>& visit);
  // Before the path inside: "" for a fileset, "/.snapshot/NAME" for a snapshot.
  std::string PathPrefix(NodeId id) const;

  // Filesets
  std::vector<FilesetInfo> List() const override;
  Result<FilesetInfo> Create(std::string_view name) override;
  Result<void> Rename(std::uint32_t fileset, std::string_view name) override;
  Result<void> Delete(std::uint32_t fileset) override;
  Result<std::vector<SnapshotInfo>> ListSnapshots(std::uint32_t fileset) const override;
  Result<SnapshotInfo> MakeSnapshot(std::uint32_t fileset, std::string_view name) override;
  Result<void> RenameSnapshot(std::uint32_t snapshot, std::string_view name) override;
  Result<void> HoldSnapshot(std::uint32_t snapshot, bool is_added) override;
  Result<void> DeleteSnapshot(std::uint32_t snapshot) override;
  Result<void> RollBack(std::uint32_t fileset) override;
  Result<FilesetInfo> Clone(std::uint32_t snapshot, std::string_view name) override;

 private:
  using Key = std::pair<std::uint32_t, std::uint32_t>;  // fileset, snapshot

  Trees& trees() const { return shared_.store->AllTrees(); }
  Result<TreeRecord> RecordOf(TreeId id) const;
  Result<TreeRecord> LiveRecord(std::uint32_t fileset) const;
  std::vector<TreeRecord> SnapshotRecords(std::uint32_t fileset) const;  // oldest first
  Result<FileSystem*> OpenTree(const TreeRecord& record);
  Result<void> StartLive(FileSystem& system);
  void Retire(FileSystem* gone);
  FileSystem* TakeOut(std::uint32_t fileset, std::uint32_t snapshot);
  FilesetInfo InfoOf(const TreeRecord& record, const std::vector<TreeRecord>& all) const;
  std::uint64_t FsidOf(const TreeRecord& record) const;
  Result<SnapshotInfo> SnapshotInfoOf(const TreeRecord& record) const;
  void TellOfSnapshots(std::uint32_t fileset);

  SharedVolume& shared_;
  BufferSource& buffers_;
  std::atomic<FileSystem*> first_{nullptr};
  std::mutex change_mutex_;          // one change of what there is at a time; held across I/O
  mutable std::shared_mutex mutex_;  // what follows
  std::map<Key, FileSystem*> open_;
  std::vector<std::unique_ptr<FileSystem>> all_;  // also what is gone: somebody may hold it still
};

// The record of a root directory that was just made.
InodeRecord NewRoot(std::uint64_t mount_epoch, std::int64_t now_ns);
// It is the first that its owner and group use.
void PutRoot(const InodeRecord& root, Transaction& transaction);

}  // namespace filer::engine
