// crash_states.h: all that a disk may hold after a power loss during a recorded run.
//
// A crash state = all writes that had completed before the last completed FLUSH was submitted, plus
// any subset of the later ones, those in flight included, each possibly torn at 512 bytes or 4 KiB.
// What a write leaves is decided until the next FLUSH covers it, so the states are enumerated once
// per flush epoch, right before its FLUSH takes effect: every state of an earlier moment of the
// epoch is among them, and the most operations had been acknowledged.
//
// Of an epoch with up to 10 pending writes: every subset. Of a longer one: every prefix, every one
// without one write, every write alone, and 64 random subsets. And each write torn: at every unit
// (or some of them), without one unit, with one unit alone, with random ones; the other writes
// there, missing, or there up to it.
//
// A state is made and hashed without copying the volume; the hash says which ones have the same
// bytes.
// Threads: none.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/units.h"
#include "fsal/engine/device/sim_device.h"

namespace filer::engine::sim {

// What of one pending write is there: nothing, all, or some units.
struct KeptWrite {
  bool is_whole = false;
  std::uint32_t unit_bytes = 0;  // 0: not torn
  std::vector<bool> units;       // torn: which ones are there
};
using KeptWrites = std::vector<KeptWrite>;  // one per pending write

struct CrashStateOptions {
  std::uint64_t seed = 1;  // of the random subsets
  std::uint32_t all_subsets_writes_max = 10;
  std::uint32_t random_subsets = 64;
  std::uint32_t torn_random = 4;  // per write and unit
  bool has_torn = true;
};

// The pending writes of one epoch on what is durable by then.
class FlushEpoch {
 public:
  using Block = std::array<std::byte, kBlockBytes>;

  std::size_t index() const noexcept { return index_; }
  std::uint64_t mark() const noexcept { return mark_; }  // the last Mark before
  std::size_t pending_count() const noexcept { return pending_.size(); }
  const SimRecord::Request& pending(std::size_t at) const { return *pending_[at]; }
  const SimImage& stable() const noexcept { return stable_; }

  // The volume with these writes on it.
  SimImage Image(const KeptWrites& kept) const;
  // Of the contents of that volume.
  std::uint64_t Hash(const KeptWrites& kept) const;
  // For a person: which writes are there.
  std::string Text(const KeptWrites& kept) const;

 private:
  friend class EpochWalk;
  explicit FlushEpoch(const SimImage& image);
  using Overlay = std::map<std::uint64_t, Block>;
  Overlay OverlayOf(const KeptWrites& kept) const;
  std::uint64_t StableHash(std::uint64_t block) const;
  void MakeStable(const SimRecord::Request& write);

  std::size_t index_ = 0;
  std::uint64_t mark_ = 0;
  SimImage stable_;
  std::uint64_t stable_sum_ = 0;
  std::unordered_map<std::uint64_t, std::uint64_t> block_hashes_;  // of blocks that are not zero
  std::vector<const SimRecord::Request*> pending_;  // in the order of completion, then in flight
};

// Calls `visit` for each epoch of the record in order, the last one (after which nothing was
// flushed) included, until it returns false.
void EachEpoch(const SimRecord& record, const std::function<bool(const FlushEpoch&)>& visit);

// Calls `visit` for each state of the epoch until it returns false. The same options give the same
// states in the same order.
void EachState(const FlushEpoch& epoch, const CrashStateOptions& options,
               const std::function<bool(const KeptWrites&)>& visit);

// Any subset, some writes torn; drawn by `random`.
KeptWrites RandomState(const FlushEpoch& epoch, std::mt19937_64& random);

}  // namespace filer::engine::sim
