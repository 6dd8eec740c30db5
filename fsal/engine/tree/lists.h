// lists.h: the lists of dropped runs: what a fileset ceased to refer to while a snapshot did. They
// are pairs of the tree kListTree:
//
//   key     be64 list, be64 epoch of the checkpoint that wrote it, be32 number
//   value   runs: le64 first block, le32 blocks, le64 birth epoch
//   key     be64 ~0, be32 tree: how far a dead tree was given back; value: the key to go on at
// A list belongs to the tree that no longer refers to its runs; the snapshot before does. Decoders
// trust nothing.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fsal/engine/format/block_run.h"
#include "fsal/engine/format/tree_table.h"

namespace filer::engine {

inline constexpr std::size_t kRunsPerListValue = 100;

std::string ListKey(std::uint64_t list, std::uint64_t epoch, std::uint32_t number);
// First key of the list, and the first one behind it.
std::string StartOfList(std::uint64_t list);
std::string EndOfList(std::uint64_t list);
// The same pair in another list. `key` is a list's.
std::string MovedListKey(std::string_view key, std::uint64_t list);
std::string EncodeRuns(std::span<const DroppedRun> runs);
Result<std::vector<DroppedRun>> DecodeRuns(std::string_view value);

std::string CursorKey(TreeId tree);
bool IsCursorKey(std::string_view key);
// The value of a cursor whose tree is given back entirely.
inline constexpr std::string_view kCursorAtEnd("\xff\xff", 2);

}  // namespace filer::engine
