// node.h: one inode in memory. While a Node exists it is the truth about its inode; the store holds
// what was committed of it.
//
// Locks, in this order: Volume::rename_mutex, Node::flush_mutex (one node only), Node::mutex
// (several: by inode number), then the leaf locks (allocator, cache queue, dirty list, store).
// Node::mutex is never held across device I/O; flush_mutex is: it serialises everything that
// changes the extents of one file.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// A block of a file in memory. What it points to never changes once it is here (readers may hold
// it): an overwrite puts another buffer in its place.
struct CachedBlock {
  BufferRef buffer;
  std::uint32_t offset = 0;  // in the buffer
  std::uint64_t stamp = 0;   // of this content; no two are the same
  bool is_dirty = false;
  bool has_reservation =
      false;                   // dirty, and the block it will be written to is still only promised
  bool is_referenced = false;  // second chance
  std::uint8_t quota_kinds = 0;  // dirty: a bit per QuotaKind that has promised a new block for it
  std::byte* data() const { return buffer.data() + offset; }
};

struct Node {
  Node(std::uint64_t number, NodeKind what) : inode(number), kind(what) {}

  const std::uint64_t inode;
  const NodeKind kind;  // as in the record; readable without the mutex
  std::mutex flush_mutex;

  std::mutex mutex;               // guards what follows
  InodeRecord record;             // as the user sees it; size includes unstable data
  std::uint64_t stable_size = 0;  // files: the size that may be committed now
  bool are_attributes_dirty = false;
  bool is_dead = false;       // unlinked and not held: every operation answers kStaleHandle
  bool is_reclaimed = false;  // dead, and its keys are gone
  std::uint32_t holds = 0;
  Lsn last_lsn = 0;  // of the newest transaction that changed it
  std::map<std::uint64_t, CachedBlock> blocks;
  std::set<std::uint64_t> dirty;  // which of them
  std::uint64_t map_version = 0;  // +1 whenever extents changed
  std::uint64_t hidden_from_block =
      UINT64_MAX;  // extents from here on are being removed: they read as holes
  std::int64_t dirty_since_ns = 0;

  bool IsDirectory() const { return kind == NodeKind::kDirectory; }
};
using NodePtr = std::shared_ptr<Node>;

// Locks several nodes in order; the same node may come twice, null is skipped.
class NodeLocks {
 public:
  explicit NodeLocks(std::initializer_list<Node*> nodes);
  void Unlock() { locks_.clear(); }

 private:
  std::vector<std::unique_lock<std::mutex>> locks_;
};

// All nodes in memory. A node that nobody uses and that holds nothing unsaved may be dropped.
class NodeCache {
 public:
  explicit NodeCache(std::size_t nodes_max) : nodes_max_per_shard_(nodes_max / kShards + 16) {}

  // From memory or the store. Errors: kStaleHandle when there is no such inode, kCorrupt.
  Result<NodePtr> Get(const Store& store, std::uint64_t inode);
  void Erase(std::uint64_t inode);
  std::vector<NodePtr> All() const;

 private:
  static constexpr std::size_t kShards = 16;
  struct Shard {
    mutable std::mutex mutex;
    std::map<std::uint64_t, NodePtr> nodes;
    std::uint64_t hand = 0;
  };
  Shard& ShardOf(std::uint64_t inode) { return shards_[inode % kShards]; }
  void EvictSome(Shard& shard);

  std::size_t nodes_max_per_shard_;
  Shard shards_[kShards];
};

}  // namespace filer::engine
