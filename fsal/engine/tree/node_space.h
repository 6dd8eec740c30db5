// node_space.h: which units (16 KiB) of the node region may be given out. Starts at mount from the
// map of used space (space_map.h), which it keeps up to date.
//
// A unit that a durable checkpoint refers to is never given out: what is freed waits until two
// later checkpoints are durable, so that even the one before the newest stays whole. Threads: the
// owner's lock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "fsal/engine/tree/space_map.h"

namespace filer::engine {

class NodeSpace {
 public:
  // The region [first_block, first_block + unit_count * kNodeBlocks), all free. `map`: is told
  // what the tree uses; outlives this; may be null.
  NodeSpace(std::uint64_t first_block, std::uint64_t unit_count, SpaceMap* map = nullptr);
  // Starts over from what the map says.
  void StartFromMap();

  // The block of a free unit, near the last one given out; nullopt: none is free.
  std::optional<std::uint64_t> Allocate();
  // Whether `block` is the start of a unit of the region.
  bool Contains(std::uint64_t block) const noexcept;
  // Whether it is a unit that some tree uses.
  bool IsUsed(std::uint64_t block) const;
  // Marks a unit found in the tree. False: it was marked before.
  bool MarkUsed(std::uint64_t block);
  // No checkpoint refers to it: free at once.
  void FreeNow(std::uint64_t block);
  // Dropped by the tree of the open epoch, `epoch`. It was in use by the tree: if not, the tree on
  // the disk contradicts itself (is_confused).
  void FreeLater(std::uint64_t block, std::uint64_t epoch);
  // Checkpoint `epoch` is durable.
  void Release(std::uint64_t epoch);

  std::uint64_t unit_count() const noexcept { return unit_count_; }
  std::uint64_t free_count() const noexcept { return free_count_; }
  std::uint64_t pending_count() const noexcept { return pending_count_; }
  bool is_confused() const noexcept { return is_confused_; }
  void Confuse() noexcept { is_confused_ = true; }  // the tree found a contradiction
  // Units of the tree as it is now.
  std::uint64_t used_count() const noexcept { return unit_count_ - free_count_ - pending_count_; }

 private:
  struct Freed {
    std::uint64_t epoch = 0;
    std::vector<std::uint64_t> units;
  };
  std::uint64_t UnitOf(std::uint64_t block) const;
  void ClearBit(std::uint64_t unit);
  std::optional<std::uint64_t> FindFree(std::uint64_t from_word, std::uint64_t to_word) const;

  const std::uint64_t first_block_;
  const std::uint64_t unit_count_;
  std::vector<std::uint64_t> words_;  // a set bit: not free
  std::uint64_t free_count_;
  std::uint64_t pending_count_ = 0;
  std::uint64_t cursor_word_ = 0;
  std::deque<Freed> freed_;
  SpaceMap* const map_;
  bool is_confused_ = false;
};

}  // namespace filer::engine
