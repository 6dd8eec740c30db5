// filesets.h: the filesets of a volume and their snapshots, as administrators see them. A fileset
// is a unit of export with an fsid, inode numbers and snapshots of its own; the volume's first one
// is always there. A snapshot is its fileset at one moment; clients see it, read-only, below
// `.snapshot/NAME` in any directory, which is that directory as it was then.
//
// Making, deleting, renaming and rolling back take one checkpoint of the volume (milliseconds,
// whatever the size) and are durable on return. Space comes back in the background.
// Threads: any. Blocking. Errors of all: kNotFound, kReadOnly, kIo.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

inline constexpr std::string_view kSnapshotsName = ".snapshot";
// In NodeId::snapshot: the folder of that name in the directory `inode`.
inline constexpr std::uint32_t kSnapshotsFolder = UINT32_MAX;
constexpr NodeId SnapshotsFolderOf(NodeId directory) {
  return {directory.fileset, kSnapshotsFolder, directory.inode};
}

struct FilesetInfo {
  std::uint32_t id = 0;  // NodeId::fileset
  std::string name;
  std::uint64_t fsid = 0;
  std::uint64_t files = 0;
  std::int64_t made_ns = 0;  // since 1970
  // Cloned from a snapshot: of which fileset, and which; 0: not.
  std::uint32_t origin_fileset = 0, origin_snapshot = 0;
};

struct SnapshotInfo {
  std::uint32_t id = 0;  // NodeId::snapshot
  std::uint32_t fileset = 0;
  std::string name;
  std::uint64_t fsid = 0;
  std::uint64_t files = 0;
  std::int64_t made_ns = 0;        // since 1970
  std::uint64_t unique_bytes = 0;  // that deleting it would free
  std::uint32_t holds = 0;         // while there are some, it is not deleted
};

class Filesets {
 public:
  virtual ~Filesets() = default;

  virtual std::vector<FilesetInfo> List() const = 0;
  // With an empty root directory (0755, uid 0). Errors: kExists, kInvalidName, kNoSpace.
  virtual Result<FilesetInfo> Create(std::string_view name) = 0;
  virtual Result<void> Rename(std::uint32_t fileset, std::string_view name) = 0;
  // With all that is in it. Errors: kBusy (it has snapshots), kInvalidArgument (the first one).
  virtual Result<void> Delete(std::uint32_t fileset) = 0;
  static NodeId Root(std::uint32_t fileset) { return {fileset, 0, kRootInode}; }

  // Oldest first. Errors: kCorrupt.
  virtual Result<std::vector<SnapshotInfo>> ListSnapshots(std::uint32_t fileset) const = 0;
  // Contains all that was written before the call, also what no client asked to be stable. Errors:
  // kExists, kInvalidName, kNoSpace.
  virtual Result<SnapshotInfo> MakeSnapshot(std::uint32_t fileset, std::string_view name) = 0;
  virtual Result<void> RenameSnapshot(std::uint32_t snapshot, std::string_view name) = 0;
  // Adds a hold or takes one away. Errors: kOutOfRange (there is none).
  virtual Result<void> HoldSnapshot(std::uint32_t snapshot, bool is_added) = 0;
  // Errors: kBusy (held, or a clone needs it).
  virtual Result<void> DeleteSnapshot(std::uint32_t snapshot) = 0;
  // The fileset becomes what its newest snapshot is; all that was written since is gone, and who
  // has files open gets kStaleHandle where they are not in it.
  virtual Result<void> RollBack(std::uint32_t fileset) = 0;
  // A writable fileset with the content of the snapshot. Errors: kExists, kInvalidName, kNoSpace.
  virtual Result<FilesetInfo> Clone(std::uint32_t snapshot, std::string_view name) = 0;
};

}  // namespace filer::engine
