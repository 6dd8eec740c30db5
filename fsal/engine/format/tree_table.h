// tree_table.h: the trees of a volume, as of a checkpoint: filesets, their snapshots, what is left
// of deleted ones, and where the roots lie. Written anew with every checkpoint, in pieces
// (node.h) that the uberblock points to.
//
//   table   header, records in ascending order of ids, lists of dropped runs first (kListTree)
// Decoders trust nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/node.h"

namespace filer::engine {

using TreeId = std::uint32_t;  // given once, never again
inline constexpr TreeId kListTree =
    0;  // runs that a tree dropped and a snapshot needs (tree/lists.h)
inline constexpr TreeId kFirstTree = 1;  // of the fileset that each volume has
inline constexpr std::string_view kFirstTreeName = "main";
inline constexpr std::size_t kTreeNameBytesMax = 63;
inline constexpr std::size_t kTreesMax = 8192;

enum class TreeKind : std::uint32_t {
  kLists = 1,
  kLive = 2,      // a fileset as it is now
  kSnapshot = 3,  // of a fileset; nothing in it changes
  kDeadTree = 4,  // a fileset, or its state before it was rolled back: being given back
  kDeadList = 5,  // of a deleted snapshot, or before a roll-back: being given back
};

// One tree. `shared_epoch`: what was born up to it is not this tree's alone: of a live tree, its
// newest snapshot or what it was cloned from; of a dead one, not to be freed with it.
struct TreeRecord {
  TreeId id = 0;
  TreeKind kind = TreeKind::kLive;
  std::uint32_t fileset = 0;  // the same for a fileset and its snapshots: the id of its first tree
  TreeId origin = 0;          // live: the snapshot that it was cloned from; 0: none
  NodePointer root{};         // block 0: empty
  std::uint32_t level = 0;
  std::uint64_t key_count = 0;
  std::uint64_t key_bytes = 0;
  std::uint64_t file_count = 0;
  std::uint64_t epoch = 0;  // snapshot: of the checkpoint that made it
  std::uint64_t shared_epoch = 0;
  // Of runs dropped since the snapshot before (live: since the newest). 0: none.
  std::uint64_t list = 0;
  std::uint64_t target_list = 0;  // kDeadList: takes what is not freed; 0: nobody does
  std::int64_t made_ns = 0;       // since 1970
  std::uint32_t holds = 0;        // snapshot: cannot be deleted
  std::string name;               // of a fileset or snapshot
};

struct TreeTable {
  TreeId next_id = kFirstTree + 1;
  std::uint64_t next_list = 2;
  std::vector<TreeRecord> records;  // by id
};

// 1 to 63 bytes of [A-Za-z0-9._:@+-], not beginning with '.' or '-'.
bool IsTreeName(std::string_view name) noexcept;

std::string EncodeTreeTable(const TreeTable& table);
std::size_t EncodedTreeTableBytes(std::size_t record_count) noexcept;
// `tree_epoch`: of the checkpoint. Errors: kCorrupt, kNewerVersion.
Result<TreeTable> DecodeTreeTable(std::string_view bytes, const VolumeLayout& layout,
                                  std::uint64_t tree_epoch);

}  // namespace filer::engine
