// store_impl.h: the store: copy-on-write B+trees on the volume (node_tree.h), of which the cache
// holds a part, and every change since the newest checkpoint in the redo log.
//
// Life of a commit: encode; under the map's lock see to it that the nodes on its way are in memory
// (else let go, read them, start again) and that the node region has room, append to the log, apply
// to the tree; later the log makes it durable. Checkpoint: under the map's lock seal the open group
// and freeze the tree (both constant time); sync the log up to there; write the nodes that changed;
// and the blocks of the map of used space that changed; FLUSH; uberblock; FLUSH; trim the log.
// Commits go on meanwhile. It runs on the thread that asked for it: Checkpoint(), a Sync that finds
// a quarter of the log in use, or a Commit that finds no room in the log or the region, or too many
// dirty nodes. Lock order: checkpoint_mutex_ (held across I/O, by checkpoints only), map_mutex_,
// the log's own.
//
// Trees come, go and are cut off (trees.h) at the cut of a checkpoint only, whose table lists them:
// so none of that is in the log. What a tree drops and a snapshot needs is kept in memory until the
// next cut writes it to its list (lists.h); a replay buries the same runs again. Files:
// store_impl.cc commits and reads, store_checkpoint.cc, store_recovery.cc, store_trees.cc
// (trees.h), store_reclaim.cc (what deleted trees give back).
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "base/sharded_counter.h"
#include "base/thread_annotations.h"
#include "fsal/engine/log/log_writer.h"
#include "fsal/engine/tree/node_io.h"
#include "fsal/engine/tree/store.h"
#include "fsal/engine/tree/tree_state.h"
#include "fsal/engine/tree/trees.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

class StoreImpl final : public Store, public Trees {
 public:
  static Result<std::unique_ptr<Store>> Open(BlockDevice& device, const Clock& clock,
                                             const StoreOpenOptions& options);

  Result<void> Close() override;
  StoreGeometry Geometry() const override;
  std::uint64_t MountEpoch() const override { return mount_epoch_; }
  std::string VolumeName() const override { return VolumeNameOf(label_); }
  std::vector<std::uint8_t> HandleKey() const override;
  Result<std::string> Get(std::string_view key) const override { return GetFrom(*first_, key); }
  Result<void> Scan(std::string_view from, std::string_view to, const Visit& visit) const override {
    return ScanIn(*first_, from, to, visit);
  }
  Result<std::pair<std::string, std::string>> Last(std::string_view from,
                                                   std::string_view to) const override {
    return LastIn(*first_, from, to);
  }
  using Store::Commit;
  Result<Lsn> Commit(Transaction transaction, std::vector<BlockRun>* freed) override {
    return CommitTo(*first_, std::move(transaction), freed);
  }
  std::uint64_t OpenEpoch() const override { return open_epoch_.load(std::memory_order_acquire); }
  std::uint64_t SharedEpoch() const override { return first_->shared_epoch.load(); }
  Trees& AllTrees() override { return *this; }
  Result<void> Sync(Lsn lsn) override;
  Lsn LastLsn() const override;
  Lsn DurableLsn() const override;
  Result<void> Checkpoint() override;
  Result<VerifiedNodes> VerifyNodes(std::string_view from, std::size_t count_max) const override {
    return VerifyNodesOf(*first_, from, count_max);
  }
  Result<VerifiedNodes> VerifyLists(std::string_view from, std::size_t count_max) const override;
  StoreCounters Counters() const override { return CountersOf(*first_); }
  SpaceReport Space() const override;
  std::vector<std::uint64_t> UsedBlocks() const override;
  Result<void> Health() const override;

  // The same for any tree (tree_view.h).
  Result<std::string> GetFrom(const TreeState& of, std::string_view key) const;
  Result<void> ScanIn(const TreeState& of, std::string_view from, std::string_view to,
                      const Visit& visit) const;
  Result<std::pair<std::string, std::string>> LastIn(const TreeState& of, std::string_view from,
                                                     std::string_view to) const;
  Result<Lsn> CommitTo(TreeState& to, Transaction transaction, std::vector<BlockRun>* freed);
  StoreCounters CountersOf(const TreeState& of) const;
  Result<VerifiedNodes> VerifyNodesOf(const TreeState& of, std::string_view from,
                                      std::size_t count_max) const;

  // Trees
  std::vector<TreeRecord> List() const override;
  Result<std::unique_ptr<Store>> Open(TreeId id) override;
  Result<TreeId> Create(std::string_view name) override;
  Result<TreeId> MakeSnapshot(TreeId live, std::string_view name) override;
  Result<TreeId> Clone(TreeId snapshot, std::string_view name) override;
  Result<void> Rename(TreeId id, std::string_view name) override;
  Result<void> Hold(TreeId snapshot, bool is_added) override;
  Result<void> Delete(TreeId id) override;
  Result<TreeId> RollBack(TreeId live) override;
  Result<Reclaimed> ReclaimSome() override;
  bool HasReclaims() const override { return has_reclaims_.load(std::memory_order_acquire); }
  Result<std::uint64_t> UniqueBlocks(TreeId snapshot) const override;
  Result<std::vector<BlockRun>> DeadRuns() const override;

 private:
  enum class Reason { kChanged, kSpace, kClose, kTrees };
  class Held;

  StoreImpl(BlockDevice& device, const Clock& clock, const Label& label,
            const StoreOpenOptions& options);

  Result<void> Recover(const StoreOpenOptions& options);
  Result<void> StartTrees();
  Result<void> StartSpace(const StoreOpenOptions& options);
  Result<void> RemakeMap(const StoreOpenOptions& options);
  // All nodes of all trees into `space`, and the runs of their leaves to `take`.
  using TakeRun = std::function<Result<void>(const BlockRun& run)>;
  Result<void> WalkTrees(NodeSpace& space, const StoreOpenOptions& options, const TakeRun& take);
  Result<void> WalkLists(NodeSpace& space, const TakeRun& take);
  Result<void> ApplyGroup(const GroupHeader& header, std::string_view payload);
  Result<void> ApplyTransaction(std::string_view& payload);
  Result<void> StartMount();

  template <typename Attempt>
  Result<bool> Read(const TreeState& of, Attempt attempt) const;
  Result<void> Load(const Misses& misses, Held& held) const;
  // store_verify.cc
  bool DoesLeadTo(const TreeState& of, const Miss& wanted) const;
  Result<void> Judge(const TreeState& of, const Miss& miss, const Error& error,
                     VerifiedNodes& verified) const;
  Result<void> VerifyAll(const TreeState& of, std::span<const Miss> nodes, Misses* pieces,
                         VerifiedNodes& verified) const;

  // What changes at the cut, under the lock; after an error of its own nothing did, and there is
  // no checkpoint.
  using Edit = std::function<Result<void>()>;
  Result<void> RunCheckpoint(Reason reason, const Edit& edit = nullptr)
      FILER_REQUIRES(checkpoint_mutex_);
  // What is about to become durable, cut off in one hold of the lock.
  struct Cut {
    std::uint64_t epoch = 0;
    std::vector<PageRef> pages;
    TreeTable table;
    std::vector<PageRef> table_pages;
    std::uint64_t node_count = 0;
    std::vector<SpaceMap::Part> map;
  };
  struct WrittenCut {
    SealedNodes sealed;
    std::vector<NodePointer> table;
    SpaceMap::Written map;
  };
  // Both under the lock, which WriteLists may let go of for reads.
  Result<void> WriteLists(std::unique_lock<std::shared_mutex>& lock);
  Result<Cut> Freeze();
  Result<WrittenCut> WriteCut(Cut& cut, Uberblock& root);
  void Thaw(const Cut& cut, const WrittenCut& written);
  std::size_t TablePieces() const;
  std::uint64_t UnitsForCheckpoint() const;

  // What a transaction does to blocks.
  struct Runs {
    std::vector<BlockRun> used, dropped, nodes;
    std::vector<DroppedRun> buried;
    std::int32_t file_delta = 0;
  };
  static Runs RunsOf(const Transaction& transaction, std::uint64_t shared_epoch);
  static Result<std::string> Encode(const Transaction& transaction, const Runs& runs, TreeId tree);
  bool CanApply(const Runs& runs) const;
  void ApplyRuns(TreeState& to, const Runs& runs);
  Result<void> Apply(TreeState& to, std::span<const TreeChange> changes, const Runs& runs);
  // Commits to a tree without making room; kWouldBlock if it would have to.
  Result<Lsn> CommitNow(TreeState& to, const Transaction& transaction, const Runs& runs)
      FILER_REQUIRES(checkpoint_mutex_);
  Result<void> MakeLogRoom(std::size_t record_bytes);
  Result<void> MakeNodeRoom();
  void LimitDirty();
  bool HasSpaceFor(const NodeTree::Needs& needs) const;

  // store_trees.cc, store_reclaim.cc; of the table, under the lock.
  TreePtr Find(TreeId id) const;
  Result<TreePtr> FindKind(TreeId id, TreeKind kind) const;
  TreePtr SnapshotBefore(const TreeState& snapshot) const;
  TreePtr TreeBehind(const TreeState& snapshot) const;
  TreePtr LiveOf(std::uint32_t fileset) const;
  std::uint64_t BaseEpoch(std::uint32_t fileset) const;
  Result<void> CheckNewName(std::uint32_t fileset, std::string_view name) const;
  TreeState& AddTree(TreeRecord record);
  void RetireList(std::uint64_t list, std::uint64_t target, std::uint64_t bound);
  void RemoveTree(TreeId id);
  Result<Reclaimed> ReclaimList(TreeState& dead) FILER_REQUIRES(checkpoint_mutex_);
  Result<Reclaimed> ReclaimTree(TreeState& dead) FILER_REQUIRES(checkpoint_mutex_);
  Result<Reclaimed> FinishReclaim(TreeState& dead) FILER_REQUIRES(checkpoint_mutex_);
  Result<Reclaimed> CommitReclaim(const Transaction& transaction, Runs runs)
      FILER_REQUIRES(checkpoint_mutex_);
  // What is next of a dead tree: runs and nodes that are its own, and where to go on.
  struct DeadPart {
    std::vector<BlockRun> runs, nodes;
    std::string next;
    bool is_end = false;
  };
  Result<DeadPart> NextDeadPart(const TreeState& dead, const std::string& from) const;
  Result<std::string> CursorOf(TreeId id) const;

  BlockDevice& device_;
  const Clock& clock_;
  const Label label_;
  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  const std::uint64_t dirty_count_max_;
  std::atomic<std::uint64_t> mount_epoch_{0};
  bool is_mount_epoch_due_ = false;  // checkpoint_mutex_
  std::uint64_t recovered_groups_ = 0;

  mutable NodeReader reader_;
  // cache_, map_'s bits, space_, open_, trees_ and what they hold, commit_count_
  mutable std::shared_mutex map_mutex_;
  mutable PageCache cache_;
  SpaceMap map_;  // its file: as root_
  NodeSpace space_;
  OpenNodes open_;
  std::map<TreeId, TreePtr> trees_;
  TreePtr first_, lists_;  // of trees_; the first fileset may be rolled back and have another id
  TreeId next_tree_ = kFirstTree + 1;
  std::uint64_t next_list_ = 2;
  std::uint32_t list_number_ = 0;   // for the key of the next value of a list
  std::vector<NodePointer> table_;  // where the newest one lies
  std::uint64_t buried_count_ = 0;
  std::uint64_t commit_count_ = 0;
  SpaceReport report_;  // final after Open
  const std::function<Result<DroppedRun>(std::string_view key, std::string_view value)> run_of_;
  std::atomic<std::uint64_t> open_epoch_{0};  // as open_'s
  std::atomic<bool> has_reclaims_{false};

  Mutex checkpoint_mutex_;
  Uberblock root_{};                           // newest on the device; checkpoint_mutex_ once open
  RunBuffers buffers_;                         // as root_
  std::atomic<std::uint64_t> dirty_count_{0};  // hint, relaxed
  mutable std::atomic<std::uint64_t> read_count_{0};                         // statistics, relaxed
  std::atomic<std::uint64_t> written_count_{0};                              // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_count_{0};                           // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_ns_{0};                              // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_last_ns_{0}, checkpoint_max_ns_{0};  // likewise
  mutable ShardedCounter call_count_;
  mutable std::atomic<std::uint64_t> reading_call_count_{0};  // statistics, relaxed
  Lsn recovered_lsn_ = 0;
  std::unique_ptr<LogWriter> log_;  // none: opened read-only
};

// The nodes that one call has read and still needs: the cache must not push one out for the next.
class StoreImpl::Held {
 public:
  explicit Held(std::size_t count_max = SIZE_MAX) : count_max_(count_max) {}

  // True the first time it is asked: the call has found everything in memory so far.
  bool IsFirstLoad() { return !std::exchange(has_loaded_, true); }
  void Add(PageRef page) {
    if (pages_.size() == count_max_) pages_.erase(pages_.begin());
    pages_.push_back(std::move(page));
  }
  // Whether a node could not be read soundly twice through the same pointer. Once, it may have been
  // freed and written anew in between; then the tree leads elsewhere by now.
  bool IsSecondFailure(const NodePointer& pointer) {
    if (std::find(failed_.begin(), failed_.end(), pointer) != failed_.end()) return true;
    failed_.push_back(pointer);
    return false;
  }

 private:
  const std::size_t count_max_;
  bool has_loaded_ = false;
  std::vector<PageRef> pages_;
  std::vector<NodePointer> failed_;
};

}  // namespace filer::engine
