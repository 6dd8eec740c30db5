// file_data.h: the contents of files: cache, reads, unstable writes and their write-back,
// truncation, holes.
//
// The life of a written byte: copied once from the caller's iovec into a pool buffer that joins the
// cache as dirty, with a block of the volume promised to it; at write-back the data goes to newly
// allocated blocks, the device is flushed, and only then the extents (and the size they need) are
// logged in one transaction; the blocks they replace become free when that is durable. Invariants:
// a cached buffer's bytes never change; in the block of the end of the file all bytes past it are
// zero, in memory and on the volume. Locks: node.h. Threads: any.
#pragma once

#include <condition_variable>
#include <deque>
#include <span>

#include "fsal/engine/fs/extents.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {

inline constexpr std::uint32_t kZeroBytes = 64 * 1024;  // of holes, in one piece

// Pool buffers for file data, and the queue by which clean blocks leave memory again.
class BufferSource {
 public:
  explicit BufferSource(SharedVolume& volume);

  // A buffer of up to `bytes` (smaller, down to one block, when there is no such run). Evicts, and
  // waits for readers to let go of theirs; kNoMemory only after long waiting. No node.mutex may be
  // held.
  Result<BufferRef> Allocate(std::uint64_t bytes);
  // Blocks [first, first + count) of the node are newly in its cache. node.mutex held.
  void Added(const NodePtr& node, std::uint64_t first_block, std::uint64_t count);
  // Drops up to `bytes` of clean, not recently used blocks. Returns how many went. No node.mutex
  // held.
  std::uint64_t Evict(std::uint64_t bytes);
  std::uint64_t cache_bytes_max() const { return cache_bytes_max_; }
  // One block of zeroes for all holes. Errors: kNoMemory.
  Result<BufferRef> Zeroes();
  // Memory is short because of dirty data: writes some of any fileset's back. Called without locks.
  std::function<void()> write_back_some;

 private:
  struct Run {
    std::weak_ptr<Node> node;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  bool TryMakeRoom(std::uint64_t bytes, int attempt);
  SharedVolume& volume_;
  std::mutex mutex_;
  std::deque<Run> queue_;
  BufferRef zeroes_;
  std::size_t compact_at_ = 8192;
  std::uint64_t cache_bytes_max_;
};

class FileData {
 public:
  FileData(Volume& volume, BufferSource& buffers);
  Result<void> Start();  // before the first use: the shared block of zeroes

  Result<ReadResult> Read(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                          Engine::AccessTime access_time);
  // The answer if all of it is in memory, else nothing.
  std::optional<Result<ReadResult>> TryReadCached(NodeId id, std::uint64_t offset_bytes,
                                                  std::uint64_t length_bytes);
  Result<WriteResult> Write(NodeId id, std::uint64_t offset_bytes, std::span<const iovec> data,
                            Stability stability, QuotaRule rule);
  Result<WriteVerifier> Commit(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes);
  // Writes back [first, end) of the file and its changed attributes; committed, not yet durable.
  Result<void> WriteBack(const NodePtr& node, std::uint64_t first_block, std::uint64_t end_block);
  Result<void> SyncAll();
  // Data older than that; called by the background thread.
  void WriteBackOld(std::int64_t older_than_ns);

  // Part of SetAttributes: the size, and whatever else `edit` does to the record in the same
  // transaction (may fail).
  using Edit = std::function<Result<void>(Staged& staged)>;
  Result<Lsn> SetSize(const NodePtr& node, std::uint64_t size, const Edit& edit);
  Result<void> Deallocate(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes);
  Result<void> Allocate(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                        bool keep_size, QuotaRule rule);
  Result<std::uint64_t> Seek(NodeId id, std::uint64_t offset_bytes, bool want_data);

  // Frees all of a dead node; big files in the background. Returns the newest transaction's LSN (0:
  // nothing done).
  Lsn ReclaimIfDead(const NodePtr& node);
  void ReclaimQueued();  // background thread
  bool HasQueuedReclaims() const;
  Result<void> FinishInterrupted();  // mount: orphans and truncations

  // The fileset was rolled back or deleted: forgets what is not written, and all nodes. Those who
  // hold some still may see them as they were.
  void Abandon();

  // relatime, in memory. node.mutex held.
  void TouchAccessTime(const NodePtr& node);

  // Before the node's owner, group or project changes: as little as possible is only promised to
  // the old ones then. Without locks.
  Result<void> SettlePromises(const NodePtr& node);
  // What is promised all the same, by writers that came between. Node locked.
  void ReturnPromises(Node& node);

 private:
  struct Piece;
  struct ReadPlan;
  struct Staging;
  struct FlushItem;
  struct FlushRun;

  Result<NodePtr> GetFile(NodeId id);
  Result<void> PlanRead(const NodePtr& node, std::uint64_t offset, std::uint64_t length,
                        Engine::AccessTime access_time, ReadPlan& plan);
  Result<void> PlanBlocks(Node& node, std::uint64_t first, std::uint64_t end, ReadPlan& plan);
  Result<bool> FillFromDevice(const NodePtr& node, ReadPlan& plan);
  ReadResult Assemble(const ReadPlan& plan) const;
  // Brings one block into the cache unless it is there or a hole.
  Result<void> LoadBlock(const NodePtr& node, std::uint64_t block);

  // kNever: kOutOfRange when the file is shorter than the end of the piece.
  enum class Extend : std::uint8_t { kAsNeeded, kNever };
  Result<void> WritePiece(const NodePtr& node, std::uint64_t offset, std::span<const iovec> data,
                          std::uint64_t skip, std::uint64_t length, Extend extend, QuotaRule rule,
                          Attributes* after);
  Result<void> Stage(std::uint64_t offset, std::span<const iovec> data, std::uint64_t skip,
                     std::uint64_t length, Staging& staging);
  Result<bool> FillEdges(Node& node, Staging& staging, std::uint64_t* missing_block);
  void Install(const NodePtr& node, Staging& staging);
  // Node locked, before Install: promises the blocks that are new to the file. quota_data.cc.
  Result<void> PromiseBlocks(const Node& node, std::uint64_t first, std::span<CachedBlock> blocks,
                             QuotaRule rule);
  void CountPromises(const Node& node, std::uint64_t first, std::uint64_t end,
                     QuotaCounts& counts) const;
  // A commit has made them true.
  void ForgetPromises(Node& node, std::uint64_t first, std::uint64_t end);
  void ReturnPromise(const Node& node, CachedBlock& block);
  Result<void> Throttle(const NodePtr& node);

  Result<void> WriteBackLocked(const NodePtr& node, std::uint64_t first, std::uint64_t end);
  Result<bool> WriteBackBatch(const NodePtr& node, std::uint64_t& first, std::uint64_t end);
  Result<void> WriteRuns(std::vector<FlushRun>& runs, const std::vector<FlushItem>& items);
  Result<void> CommitRuns(const NodePtr& node, std::span<const FlushRun> runs,
                          std::span<const FlushItem> items, std::uint64_t size_then);
  Result<Lsn> StageRuns(Node& node, std::span<const FlushRun> runs,
                        std::span<const FlushItem> items, std::uint64_t size_then);
  void AbandonRuns(const NodePtr& node, std::span<const FlushRun> runs,
                   std::span<const FlushItem> items);
  Result<void> PersistAttributes(const NodePtr& node);

  void DropBlocks(Node& node, std::uint64_t first, std::uint64_t end);
  void EraseBlock(Node& node, std::map<std::uint64_t, CachedBlock>::iterator at);
  // Removes extents of [first, end) in bounded transactions; flush_mutex held. `last` joins the
  // last one. kWithCache: what is in memory of the range goes, too. kVolumeOnly: it stays; the
  // range was hidden before, so what is in memory was written since.
  enum class Removal : std::uint8_t { kWithCache, kVolumeOnly };
  Result<Lsn> RemoveExtents(const NodePtr& node, std::uint64_t first, std::uint64_t end,
                            Removal removal, const std::function<void(Transaction&)>& last);
  // Removes what a truncation has hidden; flush_mutex held. Whoever adds extents or changes the
  // size calls it first: until it has succeeded, an extent in the hidden range would be lost.
  Result<void> FinishTruncation(const NodePtr& node);
  Result<Lsn> Shrink(const NodePtr& node, std::uint64_t size, const Edit& edit);
  struct ZeroedTail;
  Result<bool> PrepareTail(const NodePtr& node, std::uint64_t size, ZeroedTail& tail);
  Result<Lsn> Reclaim(const NodePtr& node);
  Result<void> ZeroEdge(const NodePtr& node, std::uint64_t from, std::uint64_t to);

  Volume& volume_;
  BufferSource& buffers_;
  BufferRef zeroes_;
  mutable std::mutex reclaim_mutex_;
  std::deque<NodePtr> reclaims_;
};

}  // namespace filer::engine
