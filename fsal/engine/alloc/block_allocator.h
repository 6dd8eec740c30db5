// block_allocator.h: which blocks of the data area are free. A bitmap in memory, rebuilt from the
// extents at mount.
//
// - A block goes through: free -> (reserved, as a number only) -> allocated -> pending (no longer
// referenced by the newest state, but
//   perhaps by what a crash would bring back) -> free. Pending blocks are released only when the
//   transaction that dropped them is durable, so no block that the durable state refers to is ever
//   overwritten.
// - Reservations are promises: unreserved space is given out only as long as every promise can be
// kept.
// - About 1% is held back: only callers that say so get it, so that deleting and truncating work on
// a full volume. Threads: any; one short lock.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "fsal/engine/format/block_run.h"

namespace filer::engine {

class BlockAllocator {
 public:
  // Everything in [first_block, first_block + block_count) is free at first.
  BlockAllocator(std::uint64_t first_block, std::uint64_t block_count);

  // Mount only: a bit for each block, set where it is used.
  void Start(std::span<const std::uint64_t> used_words);

  // Promises `count` blocks. kNoSpace when that many are not free. May use the held-back part if
  // `is_privileged`.
  Result<void> Reserve(std::uint64_t count, bool is_privileged);
  // Promises more than may be there: only to take back a promise that was just spent (a failed
  // write).
  void ReserveAgain(std::uint64_t count);
  void Unreserve(std::uint64_t count);

  // Up to `count_max` blocks in one run, paid for by a reservation of at least that many. Never
  // fails while promises are kept.
  BlockRun AllocateReserved(std::uint64_t count_max);

  void FreeNow(BlockRun run);  // was never referenced by a committed transaction
  void FreeAfter(std::uint64_t lsn, BlockRun run);  // dropped by transaction `lsn`
  void ReleaseDurable(std::uint64_t durable_lsn);   // pending frees up to there become free
  bool HasPending() const;

  std::uint64_t total() const { return count_; }
  std::uint64_t free() const;  // not allocated, not pending; includes what is reserved or held back
  std::uint64_t pending() const;
  std::uint64_t reserved() const;
  std::uint64_t available() const;  // what an ordinary reservation could still get
  std::uint64_t held_back() const { return held_back_; }
  bool IsUsedForTest(std::uint64_t block) const;

 private:
  struct Pending {
    std::uint64_t lsn;
    BlockRun run;
  };
  bool TestBit(std::uint64_t index) const { return (words_[index / 64] >> (index % 64)) & 1; }
  void SetRange(std::uint64_t index, std::uint64_t count, bool is_used);
  // The first run of free blocks at or after `from` (length at most `count_max`); count 0 if none
  // before `to`.
  BlockRun NextFreeRun(std::uint64_t from, std::uint64_t to, std::uint64_t count_max) const;

  mutable std::mutex mutex_;
  std::uint64_t first_;
  std::uint64_t count_;
  std::uint64_t held_back_;
  std::vector<std::uint64_t> words_;  // 1: used or pending
  std::uint64_t free_;
  std::uint64_t reserved_ = 0;
  std::uint64_t pending_count_ = 0;
  std::uint64_t cursor_ = 0;  // next fit
  std::deque<Pending> pending_;
};

}  // namespace filer::engine
