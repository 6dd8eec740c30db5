// volume.h: what all parts of a mounted file system share: the device, the store, the allocator,
// the nodes, and the small services on them (commit, sync, times, change attributes, inode numbers,
// reports of changes). The order of locks is in node.h.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/clock.h"
#include "fsal/engine/alloc/block_allocator.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/fs/node.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// Counters of the parts, added up for EngineCounters. Relaxed: they order nothing.
struct VolumeCounters {
  std::atomic<std::uint64_t> reads{0}, read_bytes{0}, writes{0}, write_bytes{0}, commits{0};
  std::atomic<std::uint64_t> metadata_changes{0}, copied_read_bytes{0}, copied_write_bytes{0};
  std::atomic<std::uint64_t> cache_hit_blocks{0}, cache_miss_blocks{0};
  std::atomic<std::uint64_t> dirty_bytes{0}, cached_bytes{0}, inodes{0}, data_flushes{0};
};

// A record as it will be after the transaction; goes to the node when that was committed.
struct Staged {
  explicit Staged(Node& of) : node(&of), record(of.record), stable_size(of.stable_size) {}
  Node* node;
  InodeRecord record;
  std::uint64_t stable_size;
};

class Volume {
 public:
  Volume(BlockDevice& device, const Clock& clock, const MountOptions& options,
         std::unique_ptr<Store> store);

  // kStaleHandle for other filesets and snapshots and for what is gone.
  Result<NodePtr> GetNode(NodeId id);
  NodeId IdOf(const Node& node) const { return {kRootFileset, 0, node.inode}; }
  Attributes AttributesOf(const Node& node) const;  // node.mutex held

  std::int64_t NowNs() const { return clock.RealtimeNs(); }
  std::uint64_t NextChange(std::uint64_t change) const;
  std::uint64_t NextCookie(InodeRecord& directory) const;
  void TouchChange(InodeRecord& record) const;   // ctime and change
  void TouchContent(InodeRecord& record) const;  // mtime, too

  Result<void> CheckWritable() const;

  // Adds the records of `staged`, commits, makes the nodes so, and frees the blocks that were
  // dropped as soon as that is durable. All their mutexes are held. Does not wait.
  Result<Lsn> Commit(Transaction transaction, std::initializer_list<Staged*> staged);
  // Waits until `lsn` is durable and lets go of blocks that were freed up to there.
  Result<void> Sync(Lsn lsn);
  // One device flush that starts after the call; concurrent callers share it. Nothing if the device
  // has no volatile cache.
  Result<void> FlushDevice();

  Result<std::uint64_t> NewInode();
  // Reserves blocks, waiting for pending frees to become durable if that helps.
  Result<void> ReserveBlocks(std::uint64_t count, bool is_privileged);

  void NotifyChange(std::initializer_list<Engine::Change> changes) const;
  // Puts the node on the list of those with unsaved data or attributes. node.mutex held.
  void MarkDirty(const NodePtr& node);
  std::vector<NodePtr> DirtyNodes() const;
  void ForgetDirty(const NodePtr& node);  // node.mutex held; stays if it is dirty again
  bool HasDirtyNodes() const;
  // Wakes the background thread when it sleeps without a deadline.
  void WakeBackground();

  WriteVerifier Verifier() const;
  void ChangeVerifier();  // unstable data may have been lost
  std::uint64_t Fsid() const;

  BlockDevice& device;
  const Clock& clock;
  const MountOptions options;
  const std::unique_ptr<Store> store;
  const StoreGeometry geometry;
  const std::uint64_t epoch;
  SipKey key{};
  BlockAllocator allocator;
  NodeCache nodes;
  VolumeCounters counters;
  std::mutex rename_mutex;  // one move of a directory between directories at a time
  std::atomic<std::uint64_t> next_stamp{1};

  // The background thread's alarm.
  std::mutex background_mutex;
  std::condition_variable background_wake;
  std::atomic<bool> has_background_work{false};

  mutable std::mutex listener_mutex;
  std::array<std::shared_ptr<const Engine::ChangeListener>, kDoorsMax + 1> listeners;
  std::atomic<std::uint32_t> listener_count{0};

 private:
  std::atomic<std::uint64_t> verifier_salt_{0};

  std::mutex inode_mutex_;
  std::uint64_t next_inode_ = 0;
  std::uint64_t inode_limit_ = 0;  // numbers below are reserved durably

  mutable std::mutex dirty_mutex_;
  std::unordered_map<std::uint64_t, NodePtr> dirty_nodes_;

  // Shared device flushes: a caller needs one that started after it came.
  std::mutex flush_mutex_;
  std::condition_variable flush_done_;
  std::uint64_t flushes_started_ = 0;
  std::uint64_t flushes_done_ = 0;
  bool is_flushing_ = false;
  std::uint64_t failed_flush_ = 0;  // the last that failed
};

}  // namespace filer::engine
