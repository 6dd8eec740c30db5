// node_io.h: nodes from and to the device.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/tree/node_tree.h"

namespace filer::engine {

// Reads and checks nodes. Threads: any.
class NodeReader {
 public:
  // Takes one buffer from the pool for the time when others hold the rest of it.
  NodeReader(BlockDevice& device, const VolumeLayout& layout, const VolumeUuid& uuid)
      : device_(device), layout_(layout), uuid_(uuid) {}
  Result<void> Start();

  // Also checks that the keys lie where its parent says, and what it points to can be. Errors:
  // kCorrupt, the device's. Blocking.
  Result<PageRef> Read(const Miss& miss);
  // All of them, several at a time; as many results.
  std::vector<Result<PageRef>> ReadAll(std::span<const Miss> misses);

 private:
  Result<void> CheckPlace(const Page& page, const Miss& miss) const;
  bool CanPointTo(const NodePointer& child, const Page& page) const;
  Result<void> CheckBlock(const Miss& miss) const;
  Result<PageRef> ReadThroughSpare(const Miss& miss);
  Result<PageRef> Decode(const Miss& miss, std::span<const std::byte> bytes) const;

  BlockDevice& device_;
  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  // Held across I/O, by those only who found the pool empty: they have to take turns.
  Mutex spare_mutex_;
  BufferRef spare_ FILER_GUARDED_BY(spare_mutex_);
};

inline constexpr std::uint32_t kNodeRunBytesMax = 1 << 20;

// Two buffers of a run each, taken once: a checkpoint must not fail because others hold the pool.
using RunBuffers = std::array<BufferRef, 2>;
Result<RunBuffers> AllocateRunBuffers(BlockDevice& device);

// Seals copies of `pages` (frozen: only read here) bottom-up and writes them in runs of up to 1
// MiB, two in flight. Returns their checksums. The caller flushes. Blocking; polls. Errors: the
// device's.
Result<SealedNodes> WriteNodes(BlockDevice& device, std::span<const PageRef> pages,
                               const RunBuffers& buffers);

// Reads trees whole: adds their nodes to `cache` and marks them and the pieces of values in
// `space`. The pieces themselves are not read. What a tree shares with one that was walked before
// is passed over. Errors: kCorrupt (a node that is damaged, has two parents in one tree or the
// wrong keys, or the counts differ), the device's. Blocking.
class TreeWalk {
 public:
  using TakeCell = std::function<Result<void>(const LeafCell& cell)>;

  TreeWalk(NodeReader& reader, PageCache& cache, NodeSpace& space)
      : reader_(reader), cache_(cache), space_(space) {}
  // `take`: gets the cells of leaves that were not walked before; may be empty.
  Result<void> Walk(const TreeRoot& root, const TakeCell& take);
  // A node that no tree points to.
  Result<void> Mark(const NodePointer& pointer);

 private:
  struct Seen {
    NodePointer pointer;
    std::uint32_t tree = 0;  // number of the walk
  };
  // False: another tree has it, too.
  Result<bool> MarkNew(const NodePointer& pointer);
  Result<void> WalkBelow(const NodePointer& pointer, std::uint32_t level, std::string_view low,
                         std::string_view high, const TakeCell& take);

  NodeReader& reader_;
  PageCache& cache_;
  NodeSpace& space_;
  std::unordered_map<std::uint64_t, Seen> seen_;  // by block
  std::uint32_t tree_ = 0;
  bool is_shared_ = false;  // this tree has nodes of others
  std::uint64_t key_count_ = 0;
  std::uint64_t key_bytes_ = 0;
};

}  // namespace filer::engine
