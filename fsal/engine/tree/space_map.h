// space_map.h: which node units and data blocks the tree uses: kept in memory with every commit,
// written with every checkpoint as of its cut. It says nothing about what may be given out: that is
// NodeSpace's and the file system's business, who start from it at mount.
//
// A block of the map goes to the one of its two places that the checkpoint before does not need;
// the uberblock holds a sum over all that are valid. A mount that does not come to that sum (a
// lost, torn or damaged write) does not trust any of it.
// Threads: bits under the owner's lock; Load, Write and Accept by one thread at a time, without it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/format/block_run.h"
#include "fsal/engine/format/space_block.h"

namespace filer::engine {

// Whether a block is in two of these runs: used twice, or freed twice.
bool DoOverlap(std::span<const BlockRun> used, std::span<const BlockRun> dropped);

class SpaceMap {
 public:
  SpaceMap(const VolumeLayout& layout, const VolumeUuid& uuid);

  // Marks a unit of the node region. False: it was so before.
  bool UseUnit(std::uint64_t unit) { return Set(unit, 1, true); }
  bool DropUnit(std::uint64_t unit) { return Set(unit, 1, false); }
  bool IsUnitUsed(std::uint64_t unit) const { return Has(unit, 1, true); }
  std::uint64_t used_units() const { return used_units_; }
  // A bit for each unit; the rest of the last word is 0.
  std::span<const std::uint64_t> unit_words() const;

  // Whether the run lies in the data area and all of it is used, or none.
  bool IsAll(BlockRun run, bool is_used) const;
  // False: not IsAll(run, !is_used): nothing is changed.
  bool Use(BlockRun run);
  bool Drop(BlockRun run);
  std::span<const std::uint64_t> data_words() const;

  // Forgets what it knows: nothing is used, and the next checkpoint writes all of it.
  void Clear();

  // What changed since it was last taken.
  struct Part {
    std::uint64_t index = 0;
    std::array<std::uint64_t, kSpaceWords> words;
  };
  std::vector<Part> TakeChanged();

  // The map as of the checkpoint of `epoch`. False: it does not come to `sum`, do not use it.
  // Errors: kNoMemory. Blocking.
  Result<bool> Load(BlockDevice& device, std::uint64_t epoch, std::uint64_t sum);
  // Writes `parts` for the checkpoint of `epoch` through `buffer`; the caller flushes. Blocking.
  struct Written {
    std::vector<std::uint64_t> indexes;
    std::vector<std::uint32_t> checksums;  // as many
    std::uint64_t sum = 0;                 // for the uberblock
  };
  Result<Written> Write(BlockDevice& device, std::span<const Part> parts, std::uint64_t epoch,
                        const BufferRef& buffer) const;
  // They are durable, and so is the uberblock.
  void Accept(const Written& written);
  // Over what is durable.
  std::uint64_t sum() const { return sum_; }

 private:
  // Of a block of the map: where it is valid, and what it adds to the sum (0: never written).
  struct Valid {
    std::uint32_t place = 0;
    std::uint32_t crc32c = 0;
    bool is_written = false;
  };
  bool Set(std::uint64_t bit, std::uint64_t count, bool is_used);
  bool Has(std::uint64_t bit, std::uint64_t count, bool is_used) const;
  bool IsInside(BlockRun run) const;
  std::uint64_t DataBit(std::uint64_t block) const {
    return data_bit_ + (block - layout_.data_first_block);
  }
  void MarkChanged(std::uint64_t index);

  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  const std::uint64_t unit_count_;
  const std::uint64_t data_bit_;  // of the first data block
  std::vector<std::uint64_t> words_;
  std::uint64_t used_units_ = 0;
  std::vector<bool> is_changed_;        // by block of the map
  std::vector<std::uint64_t> changed_;  // those, in any order
  std::vector<Valid> valid_;
  std::uint64_t sum_ = 0;
};

}  // namespace filer::engine
