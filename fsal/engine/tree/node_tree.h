// node_tree.h: the copy-on-write B+tree over the node cache. A node that belongs to a checkpoint is
// never changed: the first change after it copies the node to a free place, and its parents up to
// the root with it.
//
// Fault and retry: a call that needs a node which is not in memory changes nothing, adds what it
// missed to `misses` and says so; the caller lets go of its lock, reads the nodes, and calls again.
// A transaction is prepared before it is applied: Prepare makes sure that every node on its way is
// there, and counts the units of space that it may take, so that Apply cannot fail. Invariants: all
// leaves have level 0; no node is empty; a node is dirty from its birth until the checkpoint of its
// epoch is durable; pointers to dirty nodes have no checksum yet. Threads: const calls under the
// owner's shared lock, others under its exclusive one. Frozen pages are read without a lock.
#pragma once

#include <boost/container/static_vector.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fsal/engine/format/block_run.h"
#include "fsal/engine/tree/node_space.h"
#include "fsal/engine/tree/page_cache.h"

namespace filer::engine {

// A node that is not in memory, and what its keys have to lie in: [low, high), `high` empty: no
// end.
struct Miss {
  NodePointer pointer;
  std::uint32_t level = 0;
  std::string low, high;
  bool is_ahead = false;  // not needed yet: an error does not count
};
using Misses = std::vector<Miss>;

struct TreeChange {
  std::string_view key;
  std::optional<std::string_view> value;  // nullopt: erase
};

// What a checkpoint says about the tree.
struct TreeRoot {
  NodePointer pointer{};  // block 0: the tree is empty
  std::uint32_t level = 0;
  std::uint64_t epoch = 0;  // of the newest checkpoint
  std::uint64_t node_count = 0;
  std::uint64_t key_count = 0;
  std::uint64_t key_bytes = 0;
};

// Checksums of the nodes that a checkpoint wrote, by block.
using SealedNodes = std::unordered_map<std::uint64_t, std::uint32_t>;

// Pointers of `page` to nodes of `epoch` get their checksums.
void SetChildChecksums(Page& page, std::uint64_t epoch, const SealedNodes& sealed);

// The nodes that changed since the last cut, of all trees of a volume: a checkpoint is of all of
// them.
class OpenNodes {
 public:
  // `epoch`: of the newest checkpoint.
  void Start(std::uint64_t epoch) { epoch_ = epoch + 1; }
  std::uint64_t epoch() const noexcept { return epoch_; }  // open
  void Add(PageRef page);
  void Remove(const Page& page);
  std::size_t count() const noexcept { return dirty_.size() + frozen_count_; }
  // Marks what one Prepare has seen; trees share nodes.
  std::uint64_t NextVisit() noexcept { return ++visit_; }

  // Ends the open epoch: what changed in it becomes immutable. At most one Freeze at a time, until
  // SetClean has had all its pages.
  std::vector<PageRef> Freeze();
  // The frozen pages are durable, `sealed` are their checksums. In this order: SetChecksums for all
  // pages, SetOpenChecksums (and the roots'), then SetClean for all pages; readers and writers may
  // come between the calls.
  static void SetChecksums(std::span<const PageRef> pages, const SealedNodes& sealed);
  void SetOpenChecksums(std::uint64_t epoch, const SealedNodes& sealed);
  void SetClean(std::span<const PageRef> pages);

 private:
  std::uint64_t epoch_ = 1;
  std::vector<PageRef> dirty_;  // of the open epoch
  std::size_t frozen_count_ = 0;
  std::uint64_t visit_ = 0;
};

class NodeTree {
 public:
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  enum class Step { kDone, kAbsent, kMiss, kDamaged };

  NodeTree(const VolumeUuid& uuid, PageCache& cache, NodeSpace& space, OpenNodes& open)
      : uuid_(uuid), cache_(cache), space_(space), open_(open) {}

  // Starts from a checkpoint; `space` knows its nodes already. What was born up to `shared_epoch`
  // belongs to a snapshot, too: it is not freed when this tree drops it, but buried.
  void Start(const TreeRoot& root, std::uint64_t shared_epoch = 0);

  Step Find(std::string_view key, std::string& value, Misses& misses) const;
  // [from, to) in order until `visit` returns false; `to` empty: no end. On kMiss `from` is where
  // to go on.
  Step Scan(std::string& from, std::string_view to, const Visit& visit, Misses& misses) const;
  // The greatest in [from, to).
  Step Last(std::string_view from, std::string_view to, std::pair<std::string, std::string>& found,
            Misses& misses) const;

  // For who verifies the device (node_verify.cc). Up to `count_max` leaves from `from` on, with the
  // nodes above whose keys begin there and the pieces of leaves that are in memory only; all but
  // what is dirty, or was born up to `shared_epoch`.
  struct Branch {
    Misses nodes;
    std::string next;  // where to go on
    bool is_end = false;
  };
  Step ListNodes(std::string_view from, std::size_t count_max, std::uint64_t shared_epoch,
                 Branch& branch, Misses& misses) const;
  // kDone if the tree still has that pointer where `wanted` says; kAbsent.
  Step DoesLeadTo(const Miss& wanted, Misses& misses) const;

  struct Needs {
    std::uint64_t unit_count = 0;  // at most
    bool is_growing = false;       // more bytes come than go
    bool has_erase = false;
  };
  // kDone or kMiss.
  Step Prepare(std::span<const TreeChange> changes, Needs& needs, Misses& misses);
  // Prepared in the same hold of the lock, and the space is there. Changes the tree as of the open
  // epoch. In a damaged tree some changes may be left out: the space is confused then, and the tree
  // is not to be used any more.
  void Apply(std::span<const TreeChange> changes);

  // As it is now. The pointer has no checksum yet if its node was not written.
  TreeRoot Root() const;
  void SetRootChecksum(std::uint64_t epoch, const SealedNodes& sealed);

  std::uint64_t shared_epoch() const noexcept { return shared_epoch_; }
  void SetSharedEpoch(std::uint64_t epoch) { shared_epoch_ = epoch; }
  // What it dropped and a snapshot may need, since it was last forgotten.
  const std::vector<DroppedRun>& buried() const noexcept { return buried_; }
  std::size_t buried_count() const noexcept { return buried_.size(); }
  void ForgetBuried() { buried_.clear(); }
  void Bury(const DroppedRun& dropped) { buried_.push_back(dropped); }

  std::uint64_t key_count() const noexcept { return key_count_; }
  std::uint64_t key_bytes() const noexcept { return key_bytes_; }

 private:
  struct PathStep {
    Page* page = nullptr;
    std::size_t index = 0;  // of the child taken
  };
  // From the root to the leaf.
  using Path = boost::container::static_vector<PathStep, kNodeLevelMax + 1>;
  enum class Toward { kKey, kFirst, kLast };

  Page* FindAt(const NodePointer& pointer, std::uint32_t level) const;
  bool Descend(Path& path, NodePointer pointer, std::uint32_t level, Toward toward,
               std::string_view key, Misses& misses) const;
  bool ToNextLeaf(Path& path, std::string_view to, Misses& misses) const;
  void MissAhead(Path path, std::string_view to, Misses& misses) const;
  bool IsOnDevice(const NodePointer& pointer) const;
  void ListPieces(const Page& leaf, Misses& nodes) const;
  static Miss MissBelow(const Path& path, const NodePointer& pointer, std::uint32_t level);
  Step ReadValue(const LeafCell& cell, std::string& value, Misses& misses) const;

  NodePointer PointerTo(const Page& page) const noexcept;
  Page& NewPage(std::uint32_t level);
  Page& CopyPage(Page& page);
  void AddDirty(PageRef page);
  void Free(const NodePointer& pointer);
  void FreePieces(const LeafCell& cell);
  std::string MakePieces(std::string_view value);

  Path OwnPath(std::string_view key);
  void Put(std::string_view key, std::string_view value);
  void Erase(std::string_view key);
  void InsertAt(Path& path, std::size_t depth, std::size_t at, std::string_view cell);
  void AddSibling(Path& path, std::size_t depth, Page& right);
  void Shrink(std::string_view key);
  bool MergeAround(Page& parent, std::size_t at);
  static void RemoveChild(Page& parent, std::size_t at);
  void LowerRoot();

  const VolumeUuid uuid_;
  PageCache& cache_;
  NodeSpace& space_;
  OpenNodes& open_;
  NodePointer root_{};
  std::uint32_t root_level_ = 0;
  std::uint64_t shared_epoch_ = 0;
  std::uint64_t key_count_ = 0;
  std::uint64_t key_bytes_ = 0;
  std::vector<DroppedRun> buried_;
};

}  // namespace filer::engine
