// extents.h: where blocks of a file lie: look-ups, and an editor that turns "these blocks now lie
// there" into the smallest change of E keys. All on the store's memory: nothing here blocks on the
// device. Callers hold what protects the file's extents.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "fsal/engine/alloc/block_allocator.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// Extents that overlap [first, end), in order. Errors: kCorrupt.
Result<std::vector<Extent>> FindExtents(const Store& store, std::uint64_t inode,
                                        std::uint64_t first, std::uint64_t end,
                                        std::size_t count_max = SIZE_MAX);

class ExtentEditor {
 public:
  ExtentEditor(const Store& store, std::uint64_t inode) : store_(store), inode_(inode) {}

  // Blocks [first, end) lie nowhere any more.
  Result<void> Remove(std::uint64_t first, std::uint64_t end);
  // They lie there now; whatever they replace is freed. Joins the extent before it when that ends
  // where this begins, and no snapshot has it.
  Result<void> Add(Extent extent);

  // Puts and erases what differs from the store, and says which blocks that concerns. The editor is
  // finished then.
  void Emit(Transaction& transaction) const;
  std::uint64_t freed_blocks() const { return freed_blocks_; }
  std::uint64_t added_blocks() const { return added_blocks_; }

 private:
  struct Entry {
    Extent extent;
    bool is_changed = false;
  };
  Result<void> Load(std::uint64_t first, std::uint64_t end);

  const Store& store_;
  std::uint64_t inode_;
  std::map<std::uint64_t, Entry> working_;
  std::set<std::uint64_t> originals_;  // keys that the store has and we loaded
  std::vector<DroppedRun> freed_;
  std::vector<BlockRun> added_;
  std::uint64_t freed_blocks_ = 0;
  std::uint64_t added_blocks_ = 0;
};

// The blocks of the volume that it lies in.
inline BlockRun RunOf(const Extent& extent) { return {extent.physical, extent.length}; }
// StoreOpenOptions::run_of: what a pair of the store refers to.
Result<DroppedRun> RunOfPair(std::string_view key, std::string_view value);

// The part [first, end) of an extent.
Extent SliceExtent(const Extent& extent, std::uint64_t first, std::uint64_t end);

}  // namespace filer::engine
