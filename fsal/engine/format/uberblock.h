// uberblock.h: root of everything that changes: where the table of trees lies (tree_table.h) and
// where the log behind it starts. Two rings of 64 blocks; each uberblock is written to the same
// slot of both. The valid one with the greatest epoch wins; torn ones do not verify and are passed
// over. Invariants: epoch and mount_epoch only grow; log_epoch is new at every writable mount.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/node.h"

namespace filer::engine {

inline constexpr std::uint64_t kUberblockMagic = 0x52424755414C454DULL;

inline constexpr std::uint32_t kTablePiecesMax = 128;

struct Uberblock {
  le64 magic;     // kUberblockMagic
  le32 version;   // kFormatVersion
  le32 is_clean;  // 1: closed in order, the log behind it is empty
  std::uint8_t volume_uuid[16];
  le64 own_block;             // where this copy lies
  le64 epoch;                 // +1 per uberblock
  le64 mount_epoch;           // +1 per writable mount
  le64 log_epoch;             // random per mount; groups carry it
  le64 tree_epoch;            // of the checkpoint that it was written for; 0: none yet
  le64 node_count;            // nodes and pieces of all trees and of their table
  le64 checkpoint_lsn;        // last transaction in it
  le64 log_head_position;     // where the first group behind the checkpoint starts, in blocks since
                              // this log epoch began
  le32 log_head_prev_crc32c;  // what that group has as prev_crc32c
  le64 map_sum;               // over the blocks of the map of used space, as of the same checkpoint
  le32 table_piece_count;     // 0: no checkpoint was written yet
  NodePointer table[kTablePiecesMax];  // pieces (node.h) of the table of trees; unused ones zero
  std::uint8_t reserved[1420];         // zero
  le32 crc32c;                         // of every byte above
};
static_assert(DiskStruct<Uberblock>);
static_assert(sizeof(Uberblock) == kMetaBlockBytes && offsetof(Uberblock, crc32c) == 4092);

// Block of the copy of `epoch` in `ring`.
std::uint64_t UberblockBlock(const VolumeLayout& layout, std::uint32_t ring,
                             std::uint64_t epoch) noexcept;

// The uberblock in `bytes`, read from `at_block`. Errors: kNotOurs (no magic, or another volume's),
// kCorrupt, kNewerVersion.
Result<Uberblock> DecodeUberblock(std::span<const std::byte> bytes, const VolumeLayout& layout,
                                  const VolumeUuid& uuid, std::uint64_t at_block);

}  // namespace filer::engine
