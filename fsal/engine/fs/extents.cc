#include "fsal/engine/fs/extents.h"

#include <algorithm>

#include "base/assert.h"

namespace filer::engine {

Extent SliceExtent(const Extent& extent, std::uint64_t first, std::uint64_t end) {
  FILER_ASSERT(first >= extent.file_block && first < end && end <= extent.end());
  Extent slice = extent;
  const std::uint64_t skip = first - extent.file_block;
  slice.file_block = first;
  slice.physical += skip;
  slice.length = static_cast<std::uint32_t>(end - first);
  if (!extent.is_unwritten) {
    slice.checksums.assign(
        extent.checksums.begin() + static_cast<std::ptrdiff_t>(skip),
        extent.checksums.begin() + static_cast<std::ptrdiff_t>(skip + slice.length));
  }
  return slice;
}

Result<DroppedRun> RunOfPair(std::string_view key, std::string_view value) {
  if (!key.starts_with('E')) return DroppedRun{};
  const auto extent = FILER_TRY(DecodeExtent(key, value));
  return DroppedRun{RunOf(extent), extent.birth};
}

Result<std::vector<Extent>> FindExtents(const Store& store, std::uint64_t inode,
                                        std::uint64_t first, std::uint64_t end,
                                        std::size_t count_max) {
  std::vector<Extent> found;
  if (first >= end) return found;
  // The one that begins before `first` may reach into the range.
  const auto before = store.Last(ExtentKey(inode, 0), ExtentKey(inode, first));
  if (before.has_value()) {
    Extent extent = FILER_TRY(DecodeExtent(before.value().first, before.value().second));
    if (extent.end() > first) found.push_back(std::move(extent));
  } else if (before.error() != Errc::kNotFound) {
    return before.error();
  }
  bool is_corrupt = false;
  FILER_TRY(store.Scan(ExtentKey(inode, first), ExtentKey(inode, end),
                       [&](std::string_view key, std::string_view value) {
                         if (found.size() >= count_max) return false;
                         auto extent = DecodeExtent(key, value);
                         is_corrupt =
                             !extent.has_value() ||
                             (!found.empty() && extent.value().file_block < found.back().end());
                         if (is_corrupt) return false;
                         found.push_back(std::move(extent).value());
                         return true;
                       }));
  if (is_corrupt) return Error(Errc::kCorrupt, "an extent is damaged");
  return found;
}

Result<void> ExtentEditor::Load(std::uint64_t first, std::uint64_t end) {
  for (Extent& extent : FILER_TRY(FindExtents(store_, inode_, first, end))) {
    const std::uint64_t block = extent.file_block;
    if (originals_.insert(block).second) working_.emplace(block, Entry{std::move(extent), false});
  }
  return Ok();
}

Result<void> ExtentEditor::Remove(std::uint64_t first, std::uint64_t end) {
  FILER_TRY(Load(first, end));
  auto at = working_.upper_bound(first);
  if (at != working_.begin()) --at;
  while (at != working_.end() && at->first < end) {
    const Extent extent = at->second.extent;
    if (extent.end() <= first) {
      ++at;
      continue;
    }
    const std::uint64_t cut_first = std::max(first, extent.file_block);
    const std::uint64_t cut_end = std::min(end, extent.end());
    freed_.push_back(
        {{extent.physical + (cut_first - extent.file_block), cut_end - cut_first}, extent.birth});
    freed_blocks_ += cut_end - cut_first;
    at = working_.erase(at);
    if (extent.file_block < cut_first) {
      working_.insert_or_assign(extent.file_block,
                                Entry{SliceExtent(extent, extent.file_block, cut_first), true});
    }
    if (cut_end < extent.end()) {
      working_.insert_or_assign(cut_end, Entry{SliceExtent(extent, cut_end, extent.end()), true});
    }
  }
  return Ok();
}

Result<void> ExtentEditor::Add(Extent extent) {
  FILER_TRY(Remove(extent.file_block, extent.end()));
  added_blocks_ += extent.length;
  added_.push_back(RunOf(extent));
  if (extent.file_block > 0) {
    FILER_TRY(Load(extent.file_block - 1, extent.file_block));
    auto before = working_.lower_bound(extent.file_block);
    if (before != working_.begin()) {
      Entry& left = (--before)->second;
      const bool joins = !extent.is_unwritten && !left.extent.is_unwritten &&
                         left.extent.end() == extent.file_block &&
                         left.extent.physical + left.extent.length == extent.physical &&
                         left.extent.birth > store_.SharedEpoch() &&
                         left.extent.length + extent.length <= kExtentBlocksMax;
      if (joins) {
        // Older is safe: no snapshot was made between the two (Transaction::BornIn).
        left.extent.birth = std::min(left.extent.birth, extent.birth);
        left.extent.length += extent.length;
        left.extent.checksums.insert(left.extent.checksums.end(), extent.checksums.begin(),
                                     extent.checksums.end());
        left.is_changed = true;
        return Ok();
      }
    }
  }
  const std::uint64_t block = extent.file_block;
  working_.insert_or_assign(block, Entry{std::move(extent), true});
  return Ok();
}

void ExtentEditor::Emit(Transaction& transaction) const {
  for (const BlockRun& run : added_) transaction.Use(run);
  for (const DroppedRun& run : freed_) transaction.Drop(run.run, run.birth_epoch);
  for (const std::uint64_t block : originals_) {
    if (!working_.contains(block)) transaction.Erase(ExtentKey(inode_, block));
  }
  for (const auto& [block, entry] : working_) {
    if (entry.is_changed) transaction.Put(ExtentKey(inode_, block), EncodeExtent(entry.extent));
  }
}

}  // namespace filer::engine
