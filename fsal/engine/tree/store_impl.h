// store_impl.h: the store: a copy-on-write B+tree on the volume (node_tree.h), of which the cache
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
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "base/thread_annotations.h"
#include "fsal/engine/log/log_writer.h"
#include "fsal/engine/tree/node_io.h"
#include "fsal/engine/tree/store.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

class StoreImpl final : public Store {
 public:
  static Result<std::unique_ptr<Store>> Open(BlockDevice& device, const Clock& clock,
                                             const StoreOpenOptions& options);

  Result<void> Close() override;
  StoreGeometry Geometry() const override;
  std::uint64_t MountEpoch() const override { return mount_epoch_; }
  std::string VolumeName() const override { return VolumeNameOf(label_); }
  std::vector<std::uint8_t> HandleKey() const override;
  Result<std::string> Get(std::string_view key) const override;
  Result<void> Scan(std::string_view from, std::string_view to,
                    const std::function<bool(std::string_view key, std::string_view value)>& visit)
      const override;
  Result<std::pair<std::string, std::string>> Last(std::string_view from,
                                                   std::string_view to) const override;
  Result<Lsn> Commit(Transaction transaction) override;
  Result<void> Sync(Lsn lsn) override;
  Lsn LastLsn() const override;
  Lsn DurableLsn() const override;
  Result<void> Checkpoint() override;
  StoreCounters Counters() const override;
  SpaceReport Space() const override;
  std::vector<std::uint64_t> UsedBlocks() const override;
  Result<void> Health() const override;

 private:
  enum class Reason { kChanged, kSpace, kClose };
  class Held;

  StoreImpl(BlockDevice& device, const Clock& clock, const Label& label,
            const StoreOpenOptions& options);

  Result<void> Recover(const StoreOpenOptions& options);
  Result<void> StartSpace(const StoreOpenOptions& options, const TreeRoot& tree_root);
  Result<void> RemakeMap(const StoreOpenOptions& options, const TreeRoot& tree_root);
  Result<void> ApplyGroup(const GroupHeader& header, std::string_view payload);
  Result<void> ApplyTransaction(std::string_view& payload);
  Result<void> StartMount();

  template <typename Attempt>
  Result<bool> Read(Attempt attempt) const;
  Result<void> Load(const Misses& misses, Held& held) const;

  Result<void> RunCheckpoint(Reason reason) FILER_REQUIRES(checkpoint_mutex_);
  // What is about to become durable, cut off in one hold of the lock.
  struct Cut {
    NodeTree::Frozen tree;
    std::vector<SpaceMap::Part> map;
    std::uint64_t file_count = 0;
  };
  struct WrittenCut {
    SealedNodes sealed;
    SpaceMap::Written map;
  };
  Cut Freeze();
  Result<WrittenCut> WriteCut(const Cut& cut, Uberblock& root);
  void Thaw(const Cut& cut, const WrittenCut& written);
  // Of runs that do not overlap.
  bool CanApply(std::span<const BlockRun> used, std::span<const BlockRun> dropped) const;
  void ApplyRuns(std::span<const BlockRun> used, std::span<const BlockRun> dropped,
                 std::int32_t file_delta);
  Result<void> MakeLogRoom(std::size_t record_bytes);
  Result<void> MakeNodeRoom();
  void LimitDirty();
  bool HasSpaceFor(const NodeTree::Needs& needs) const;

  BlockDevice& device_;
  const Clock& clock_;
  const Label label_;
  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  const std::uint64_t dirty_count_max_;
  std::uint64_t mount_epoch_ = 0;
  std::uint64_t recovered_groups_ = 0;

  mutable NodeReader reader_;
  // cache_, map_'s bits, space_, tree_, file_count_, commit_count_
  mutable std::shared_mutex map_mutex_;
  mutable PageCache cache_;
  SpaceMap map_;  // its file: as root_
  NodeSpace space_;
  NodeTree tree_;
  std::uint64_t file_count_ = 0;
  std::uint64_t commit_count_ = 0;
  SpaceReport report_;  // final after Open

  Mutex checkpoint_mutex_;
  Uberblock root_{};                           // newest on the device; checkpoint_mutex_ once open
  RunBuffers buffers_;                         // as root_
  std::atomic<std::uint64_t> dirty_count_{0};  // hint, relaxed
  mutable std::atomic<std::uint64_t> read_count_{0};  // statistics, relaxed
  std::atomic<std::uint64_t> written_count_{0};       // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_count_{0};    // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_ns_{0};       // statistics, relaxed
  Lsn recovered_lsn_ = 0;
  std::unique_ptr<LogWriter> log_;  // none: opened read-only
};

// The nodes that one call has read and still needs: the cache must not push one out for the next.
class StoreImpl::Held {
 public:
  explicit Held(std::size_t count_max = SIZE_MAX) : count_max_(count_max) {}

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
  std::vector<PageRef> pages_;
  std::vector<NodePointer> failed_;
};

}  // namespace filer::engine
