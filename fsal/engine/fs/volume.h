// volume.h: what all parts of one file system share, which is a fileset or a snapshot: its keys,
// its nodes, and the small services on them (commit, times, change attributes, inode numbers),
// beside what is the whole volume's (shared_volume.h). The order of locks is in node.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "fsal/engine/engine.h"
#include "fsal/engine/fs/acl_table.h"
#include "fsal/engine/fs/node.h"
#include "fsal/engine/fs/quota.h"
#include "fsal/engine/fs/shared_volume.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

struct TreeRecord;

// A record as it will be after the transaction; goes to the node when that was committed.
struct Staged {
  explicit Staged(Node& of) : node(&of), record(of.record), stable_size(of.stable_size) {}
  Node* node;
  InodeRecord record;
  std::uint64_t stable_size;
  // What Commit needs to count it: an inode that comes or goes (the transaction erases its record),
  // blocks that were promised to unstable writes, and whether limits are a reason to refuse.
  bool is_new = false, is_gone = false;
  QuotaCounts promised{};
  QuotaRule quota_rule = QuotaRule::kExempt;
  std::optional<Acl> acl;  // the list it will have, if that changes; record.acl follows
};

class Volume {
 public:
  // The tree `record` of the volume; `view`: its keys. `nodes_max`: kept in memory.
  Volume(SharedVolume& shared, const TreeRecord& record, std::unique_ptr<Store> view,
         std::size_t nodes_max);

  // kStaleHandle for other filesets and snapshots and for what is gone.
  Result<NodePtr> GetNode(NodeId id);
  NodeId IdOf(std::uint64_t inode) const { return {fileset, snapshot, inode}; }
  NodeId IdOf(const Node& node) const { return IdOf(node.inode); }
  Attributes AttributesOf(const Node& node) const;  // node.mutex held

  std::int64_t NowNs() const { return clock.RealtimeNs(); }
  std::uint64_t NextChange(std::uint64_t change) const;
  std::uint64_t NextCookie(InodeRecord& directory) const;
  void TouchChange(InodeRecord& record) const;   // ctime and change
  void TouchContent(InodeRecord& record) const;  // mtime, too

  Result<void> CheckWritable() const;

  // Adds the records of `staged` and what they change about quotas, commits, makes the nodes so,
  // and frees the blocks that were dropped as soon as that is durable. All their mutexes are held.
  // Does not wait. Errors: kQuotaExceeded, the store's.
  Result<Lsn> Commit(Transaction transaction, std::initializer_list<Staged*> staged);
  Result<void> Sync(Lsn lsn) { return shared.Sync(lsn); }
  Result<void> FlushDevice() { return shared.FlushDevice(); }

  Result<std::uint64_t> NewInode();
  Result<void> ReserveBlocks(std::uint64_t count, bool is_privileged) {
    return shared.ReserveBlocks(count, is_privileged);
  }

  void NotifyChange(std::initializer_list<Engine::Change> changes) const {
    shared.NotifyChange(changes);
  }
  // Puts the node on the list of those with unsaved data or attributes. node.mutex held.
  void MarkDirty(const NodePtr& node);
  std::vector<NodePtr> DirtyNodes() const;
  void ForgetDirty(const NodePtr& node);  // node.mutex held; stays if it is dirty again
  bool HasDirtyNodes() const;
  void WakeBackground() { shared.WakeBackground(); }

  WriteVerifier Verifier() const { return shared.Verifier(); }
  void ChangeVerifier() { shared.ChangeVerifier(); }
  std::uint64_t Fsid() const;

  SharedVolume& shared;
  const std::uint32_t fileset;
  const std::uint32_t snapshot;  // 0: the fileset as it is
  BlockDevice& device;           // and so on: the shared one's
  const Clock& clock;
  const MountOptions options;  // of a snapshot: read-only
  const std::unique_ptr<Store> store;
  const StoreGeometry geometry;
  const std::uint64_t epoch;
  const SipKey& key;
  AclTable acls{store, key};
  BlockAllocator& allocator;
  NodeCache nodes;
  QuotaTable quotas;
  VolumeCounters& counters;
  std::mutex rename_mutex;  // one move of a directory between directories at a time
  std::atomic<std::uint64_t>& next_stamp;
  std::atomic<bool> is_retired{false};  // rolled back or deleted: nothing changes any more

 private:
  std::mutex inode_mutex_;
  const std::uint64_t first_inode_;  // numbers of this tree are not below; 0: any
  std::uint64_t next_inode_ = 0;
  std::uint64_t inode_limit_ = 0;  // numbers below are reserved durably

  mutable std::mutex dirty_mutex_;
  std::unordered_map<std::uint64_t, NodePtr> dirty_nodes_;
};

}  // namespace filer::engine
