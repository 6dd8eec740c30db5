// trees.h: the trees of a store: filesets, their snapshots and clones. Each is a key-value space
// of its own; they share the volume's space, log and memory.
//
// A snapshot is a cut of its fileset that shares all of it, made by one checkpoint, whatever the
// size. What the fileset drops afterwards goes to a list until no snapshot needs it. Deleting and
// rolling back take one checkpoint, too; the space comes back by ReclaimSome.
// Threads: any. All changes block for a checkpoint.
// Errors of all: kNotFound (no such tree), kReadOnly, kIo.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fsal/engine/format/block_run.h"
#include "fsal/engine/format/tree_table.h"

namespace filer::engine {

class Store;

class Trees {
 public:
  virtual ~Trees() = default;

  // All but the list of lists: filesets, snapshots, and dead ones that wait to be given back.
  virtual std::vector<TreeRecord> List() const = 0;

  // A fileset's or snapshot's keys. The answer must not outlive the store. Get, Scan, Last, Commit
  // are the tree's, all else is the volume's. Once the tree is deleted, they say kStaleHandle.
  virtual Result<std::unique_ptr<Store>> Open(TreeId id) = 0;

  // An empty fileset. Errors: kExists, kInvalidName, kNoSpace (kTreesMax).
  virtual Result<TreeId> Create(std::string_view name) = 0;
  // Errors: kExists, kInvalidName, kNoSpace.
  virtual Result<TreeId> MakeSnapshot(TreeId live, std::string_view name) = 0;
  // A writable fileset with the content of a snapshot, which cannot be deleted as long as the clone
  // lives. Errors: as MakeSnapshot.
  virtual Result<TreeId> Clone(TreeId snapshot, std::string_view name) = 0;
  // Errors: kExists, kInvalidName.
  virtual Result<void> Rename(TreeId id, std::string_view name) = 0;
  // Adds a hold, or takes one away; while there are some, Delete refuses. Errors: kOutOfRange.
  virtual Result<void> Hold(TreeId snapshot, bool is_added) = 0;
  // Errors: kBusy (holds, clones, or snapshots of a fileset), kInvalidArgument (the first fileset).
  virtual Result<void> Delete(TreeId id) = 0;
  // The fileset becomes what its newest snapshot is: under a new id, which is returned; commits to
  // the old one say kStaleHandle. MountEpoch() grows: what is numbered by it must not come again.
  // Errors: kNotFound (no snapshot).
  virtual Result<TreeId> RollBack(TreeId live) = 0;

  // A bounded step of giving back what deleted trees held. `freed`: blocks of the data area that
  // are free once everything up to the returned LSN is durable. False: nothing is left to do.
  // Errors: kCorrupt.
  struct Reclaimed {
    bool has_more = false;
    std::uint64_t lsn = 0;
    std::vector<BlockRun> freed;
  };
  virtual Result<Reclaimed> ReclaimSome() = 0;
  virtual bool HasReclaims() const = 0;

  // Blocks that deleting this snapshot would free. Reads the list behind it. Errors: kCorrupt.
  virtual Result<std::uint64_t> UniqueBlocks(TreeId snapshot) const = 0;

  // Runs of the data area that no live tree or snapshot need refer to, and that are in use all the
  // same: lists, and dead trees. For check. Errors: kCorrupt, the device's.
  virtual Result<std::vector<BlockRun>> DeadRuns() const = 0;
};

}  // namespace filer::engine
