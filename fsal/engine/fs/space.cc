// space.cc: truncation, holes, allocation, seeking, and the end of files.
#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/io_batch.h"

namespace filer::engine {
namespace {
constexpr std::size_t kExtentsPerTransaction = 256;
constexpr std::uint64_t kBlocksMax = kFileBytesMax / kBlockBytes;
constexpr int kTailRetries = 1000;
}  // namespace

void FileData::EraseBlock(Node& node, std::map<std::uint64_t, CachedBlock>::iterator at) {
  if (at->second.has_reservation) volume_.allocator.Unreserve(1);
  ReturnPromise(node, at->second);
  if (at->second.is_dirty) {
    volume_.counters.dirty_bytes.fetch_sub(kBlockBytes, std::memory_order_relaxed);
    node.dirty.erase(at->first);
  }
  volume_.counters.cached_bytes.fetch_sub(kBlockBytes, std::memory_order_relaxed);
  node.blocks.erase(at);
}

void FileData::DropBlocks(Node& node, std::uint64_t first, std::uint64_t end) {
  auto at = node.blocks.lower_bound(first);
  while (at != node.blocks.end() && at->first < end) EraseBlock(node, at++);
}

Result<Lsn> FileData::RemoveExtents(const NodePtr& node, std::uint64_t first, std::uint64_t end,
                                    Removal removal,
                                    const std::function<void(Transaction&)>& last) {
  Lsn lsn = 0;
  while (first < end) {
    const std::lock_guard lock(node->mutex);
    const auto extents =
        FILER_TRY(FindExtents(*volume_.store, node->inode, first, end, kExtentsPerTransaction));
    const bool is_last = extents.size() < kExtentsPerTransaction;
    const std::uint64_t chunk_end = is_last ? end : std::min(end, extents.back().end());
    ExtentEditor editor(*volume_.store, node->inode);
    FILER_TRY(editor.Remove(first, chunk_end));
    Transaction transaction;
    editor.Emit(transaction);
    if (is_last && last) last(transaction);
    Staged staged(*node);
    staged.record.blocks -= std::min(staged.record.blocks, editor.freed_blocks());
    if (removal == Removal::kWithCache) {
      // Unstable data dropped here would have made the size stable later.
      staged.stable_size =
          std::max(staged.stable_size, std::min(staged.record.size, chunk_end * kBlockBytes));
    }
    lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
    ++node->map_version;
    if (removal == Removal::kWithCache) DropBlocks(*node, first, chunk_end);
    first = chunk_end;
  }
  return lsn;
}

Result<void> FileData::FinishTruncation(const NodePtr& node) {
  std::uint64_t first = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead || node->hidden_from_block == UINT64_MAX) return Ok();
    first = node->hidden_from_block;
  }
  FILER_TRY(RemoveExtents(
      node, first, kBlocksMax, Removal::kVolumeOnly,
      [&](Transaction& transaction) { transaction.Erase(TruncateKey(node->inode)); }));
  const std::lock_guard lock(node->mutex);
  node->hidden_from_block = UINT64_MAX;
  return Ok();
}

// The block of the new end, rewritten with zeroes past it, before the transaction that refers to
// it.
struct FileData::ZeroedTail {
  bool exists = false;
  std::uint64_t block = 0;
  std::uint64_t old_stamp = 0;
  BufferRef buffer;
  BlockRun place;
  std::uint32_t checksum = 0;
};

// flush_mutex held. False: the block is a hole, there is nothing to zero.
Result<bool> FileData::PrepareTail(const NodePtr& node, std::uint64_t size, ZeroedTail& tail) {
  tail = ZeroedTail{};
  tail.block = size / kBlockBytes;
  const std::uint64_t keep = size % kBlockBytes;
  if (keep == 0) return false;
  const BufferRef buffer = FILER_TRY(buffers_.Allocate(kBlockBytes));
  for (int attempt = 0;; ++attempt) {
    FILER_TRY(LoadBlock(node, tail.block));
    const std::lock_guard lock(node->mutex);
    const auto cached = node->blocks.find(tail.block);
    if (cached != node->blocks.end()) {
      std::memcpy(buffer.data(), cached->second.data(), keep);
      std::memset(buffer.data() + keep, 0, kBlockBytes - keep);
      tail.old_stamp = cached->second.stamp;
      break;
    }
    const auto extents =
        FILER_TRY(FindExtents(*volume_.store, node->inode, tail.block, tail.block + 1));
    if (extents.empty() || extents.front().is_unwritten) return false;
    if (attempt >= kTailRetries) return Errc::kNoMemory;  // evicted again and again
  }
  FILER_TRY(volume_.ReserveBlocks(1, true));
  tail.place = volume_.allocator.AllocateReserved(1);
  tail.buffer = buffer;
  tail.checksum = Crc32c({buffer.data(), kBlockBytes});
  tail.exists = true;
  IoBatch batch(volume_.device);
  batch.Submit(BlockOperation::kWrite, tail.place.first * kBlockBytes,
               {{buffer.data(), kBlockBytes}});
  auto written = batch.Wait();
  if (written.has_value()) written = volume_.FlushDevice();
  if (!written.has_value()) {
    volume_.allocator.FreeNow(tail.place);
    return written.error();
  }
  return true;
}

// flush_mutex held; the file is longer than `size`.
Result<Lsn> FileData::Shrink(const NodePtr& node, std::uint64_t size, const Edit& edit) {
  const std::uint64_t first_gone = RoundUp(size, kBlockBytes) / kBlockBytes;
  ZeroedTail tail;
  for (int attempt = 0; attempt < kTailRetries; ++attempt) {
    FILER_TRY(PrepareTail(node, size, tail));
    std::unique_lock lock(node->mutex);
    const auto cached = node->blocks.find(tail.block);
    const bool was_written = size % kBlockBytes != 0 && cached != node->blocks.end() &&
                             cached->second.stamp != tail.old_stamp;
    if (was_written || node->is_dead) {  // a writer came between
      if (tail.exists) volume_.allocator.FreeNow(tail.place);
      if (node->is_dead) return Errc::kStaleHandle;
      continue;
    }
    const auto commit = [&]() -> Result<Lsn> {
      Staged staged(*node);
      staged.record.size = staged.stable_size = size;
      volume_.TouchContent(staged.record);
      if (edit) FILER_TRY(edit(staged));
      Transaction transaction;
      ExtentEditor editor(*volume_.store, node->inode);
      if (tail.exists) {
        Extent extent;
        extent.file_block = tail.block;
        extent.physical = tail.place.first;
        extent.length = 1;
        extent.birth = volume_.store->OpenEpoch();
        transaction.BornIn(extent.birth);
        extent.checksums = {tail.checksum};
        FILER_TRY(editor.Add(std::move(extent)));
      }
      const auto gone = FILER_TRY(FindExtents(*volume_.store, node->inode, first_gone, kBlocksMax,
                                              kExtentsPerTransaction + 1));
      const bool is_big = gone.size() > kExtentsPerTransaction;
      if (is_big) transaction.Put(TruncateKey(node->inode), "");
      if (!is_big) FILER_TRY(editor.Remove(first_gone, kBlocksMax));
      editor.Emit(transaction);
      staged.record.blocks += editor.added_blocks();
      staged.record.blocks -= std::min(staged.record.blocks, editor.freed_blocks());
      const Lsn lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
      ++node->map_version;
      if (is_big) node->hidden_from_block = first_gone;
      return lsn;
    };
    auto lsn = commit();
    while (!lsn.has_value() && lsn.error() == Errc::kWouldBlock) lsn = commit();  // a snapshot
    if (!lsn.has_value()) {
      if (tail.exists) volume_.allocator.FreeNow(tail.place);
      return lsn;
    }
    DropBlocks(*node, first_gone, UINT64_MAX);
    if (tail.exists) {
      DropBlocks(*node, tail.block, tail.block + 1);
      CachedBlock& block = node->blocks[tail.block];
      block.buffer = tail.buffer;
      block.stamp = volume_.next_stamp.fetch_add(1, std::memory_order_relaxed);
      volume_.counters.cached_bytes.fetch_add(kBlockBytes, std::memory_order_relaxed);
      buffers_.Added(node, tail.block, 1);
    }
    lock.unlock();
    // The file is short already, for all and for good. From here on others write to it.
    if (const auto finished = FinishTruncation(node); !finished.has_value()) {
      FILER_LOG_ERROR(
          "inode {}: a truncation is not finished: {}; the next write-back or mount "
          "tries again",
          node->inode, finished.error().message());
    }
    return lsn;
  }
  return Errc::kBusy;
}

Result<Lsn> FileData::SetSize(const NodePtr& node, std::uint64_t size, const Edit& edit) {
  if (size > kFileBytesMax) return Errc::kFileTooBig;
  const std::lock_guard flush_lock(node->flush_mutex);
  FILER_TRY(FinishTruncation(node));
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    if (node->record.kind == NodeKind::kDirectory) return Errc::kIsDirectory;
    if (node->record.kind != NodeKind::kFile) return Errc::kInvalidArgument;
    if (size >= node->record.size) {
      Staged staged(*node);
      staged.record.size = staged.stable_size = size;
      volume_.TouchContent(staged.record);
      if (edit) FILER_TRY(edit(staged));
      return volume_.Commit({}, {&staged});
    }
  }
  return Shrink(node, size, edit);
}

// Zeroes part of one block if there is anything in it.
Result<void> FileData::ZeroEdge(const NodePtr& node, std::uint64_t from, std::uint64_t to) {
  for (int attempt = 0; attempt < kTailRetries; ++attempt) {
    if (from >= to) return Ok();
    FILER_TRY(LoadBlock(node, from / kBlockBytes));
    {
      const std::lock_guard lock(node->mutex);
      to = std::min(to, node->record.size);
      if (from >= to) return Ok();
      const std::uint64_t block = from / kBlockBytes;
      if (!node->blocks.contains(block)) {
        if (block >= node->hidden_from_block) return Ok();
        const auto extents = FILER_TRY(FindExtents(*volume_.store, node->inode, block, block + 1));
        if (extents.empty() || extents.front().is_unwritten) return Ok();
      }
    }
    const iovec zero{zeroes_.data(), to - from};
    const auto written = WritePiece(node, from, {&zero, 1}, 0, to - from, Extend::kNever,
                                    QuotaRule::kExempt, nullptr);
    // Shorter meanwhile: zeroes past the new end would make it longer again.
    if (written.has_value() || !(written.error() == Errc::kOutOfRange)) return written;
  }
  return Errc::kBusy;
}

Result<void> FileData::Deallocate(NodeId id, std::uint64_t offset_bytes,
                                  std::uint64_t length_bytes) {
  FILER_TRY(volume_.CheckWritable());
  const NodePtr node = FILER_TRY(GetFile(id));
  if (length_bytes == 0 || offset_bytes > kFileBytesMax) return Errc::kInvalidArgument;
  std::uint64_t end = offset_bytes + std::min(length_bytes, kFileBytesMax - offset_bytes);
  std::uint64_t size = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    size = node->record.size;
  }
  if (end >= size) end = std::max(end, RoundUp(size, kBlockBytes));  // past the end all is zero
  const std::uint64_t inner_first = RoundUp(offset_bytes, kBlockBytes);
  const std::uint64_t inner_end = RoundDown(end, kBlockBytes);
  FILER_TRY(ZeroEdge(node, offset_bytes, std::min(inner_first, end)));
  if (inner_end >= inner_first) FILER_TRY(ZeroEdge(node, inner_end, end));
  {
    const std::lock_guard lock(node->flush_mutex);
    FILER_TRY(FinishTruncation(node));
    if (inner_end > inner_first) {
      FILER_TRY(RemoveExtents(node, inner_first / kBlockBytes, inner_end / kBlockBytes,
                              Removal::kWithCache, nullptr));
    }
    {
      const std::lock_guard node_lock(node->mutex);
      volume_.TouchContent(node->record);
      node->are_attributes_dirty = true;
    }
    FILER_TRY(
        WriteBackLocked(node, offset_bytes / kBlockBytes, RoundUp(end, kBlockBytes) / kBlockBytes));
  }
  FILER_TRY(volume_.Sync(volume_.store->LastLsn()));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<void> FileData::Allocate(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                bool keep_size, QuotaRule rule) {
  FILER_TRY(volume_.CheckWritable());
  const NodePtr node = FILER_TRY(GetFile(id));
  if (length_bytes == 0) return Errc::kInvalidArgument;
  if (offset_bytes > kFileBytesMax || length_bytes > kFileBytesMax - offset_bytes) {
    return Errc::kFileTooBig;
  }
  const std::uint64_t end_bytes = offset_bytes + length_bytes;
  const std::uint64_t end = RoundUp(end_bytes, kBlockBytes) / kBlockBytes;
  {
    const std::lock_guard flush_lock(node->flush_mutex);
    FILER_TRY(FinishTruncation(node));
    std::uint64_t at = offset_bytes / kBlockBytes;
    while (at < end) {  // one hole after the other, a bounded part at a time
      const std::lock_guard lock(node->mutex);
      if (node->is_dead) return Errc::kStaleHandle;
      const auto next = FILER_TRY(FindExtents(*volume_.store, node->inode, at, end, 1));
      if (!next.empty() && next.front().file_block <= at) {
        at = next.front().end();
        continue;
      }
      const std::uint64_t hole_end = next.empty() ? end : next.front().file_block;
      const std::uint64_t want = std::min<std::uint64_t>(hole_end - at, kUnwrittenExtentBlocksMax);
      FILER_TRY(volume_.allocator.Reserve(want, false));
      const BlockRun place = volume_.allocator.AllocateReserved(want);
      volume_.allocator.Unreserve(want - place.count);
      Extent extent;
      extent.file_block = at;
      extent.physical = place.first;
      extent.length = static_cast<std::uint32_t>(place.count);
      extent.birth = volume_.store->OpenEpoch();
      extent.is_unwritten = true;
      Transaction transaction;
      transaction.BornIn(extent.birth);
      transaction.Put(ExtentKey(node->inode, at), EncodeExtent(extent));
      transaction.Use(place);
      Staged staged(*node);
      staged.record.blocks += place.count;
      staged.quota_rule = rule;
      CountPromises(*node, at, at + place.count, staged.promised);
      const auto lsn = volume_.Commit(std::move(transaction), {&staged});
      if (!lsn.has_value()) {
        volume_.allocator.FreeNow(place);
        if (lsn.error() == Errc::kWouldBlock) continue;  // a snapshot came between
        return lsn.error();
      }
      ForgetPromises(*node, at, at + place.count);
      ++node->map_version;
      at += place.count;
    }
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    Staged staged(*node);
    if (!keep_size && end_bytes > staged.record.size) {
      staged.record.size = staged.stable_size = end_bytes;
    }
    volume_.TouchContent(staged.record);  // the content is the same, but that is what disks do
    FILER_TRY(volume_.Commit({}, {&staged}));
  }
  FILER_TRY(volume_.Sync(volume_.store->LastLsn()));
  volume_.NotifyChange({{id, {}}});
  return Ok();
}

Result<std::uint64_t> FileData::Seek(NodeId id, std::uint64_t offset_bytes, bool want_data) {
  const NodePtr node = FILER_TRY(GetFile(id));
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  const std::uint64_t size = node->record.size;
  if (offset_bytes >= size) return Errc::kOutOfRange;
  std::uint64_t at = offset_bytes / kBlockBytes;
  const std::uint64_t end = RoundUp(size, kBlockBytes) / kBlockBytes;
  const std::uint64_t mapped_end = std::min(end, node->hidden_from_block);
  while (at < end) {
    // From here: data by memory, data by an extent, or a hole up to the next of either.
    const auto dirty = node->dirty.lower_bound(at);
    std::uint64_t next_data = dirty == node->dirty.end() ? end : std::min(end, *dirty);
    std::uint64_t data_end = next_data == end ? end : next_data + 1;
    std::uint64_t look = at;
    while (look < std::min(mapped_end, next_data)) {
      const auto found = FILER_TRY(FindExtents(*volume_.store, node->inode, look, mapped_end, 1));
      if (found.empty()) break;
      look = found.front().end();
      if (found.front().is_unwritten) continue;
      const std::uint64_t begin = std::max(at, found.front().file_block);
      if (begin < next_data) {
        next_data = begin;
        data_end = std::min(end, found.front().end());
      }
      break;
    }
    if (want_data) {
      if (next_data >= end) return Errc::kOutOfRange;
      return std::max(offset_bytes, next_data * kBlockBytes);
    }
    if (next_data > at) return std::max(offset_bytes, at * kBlockBytes);
    at = data_end;
  }
  return size;  // the hole that every file ends in
}

}  // namespace filer::engine
