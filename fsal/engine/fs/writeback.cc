// writeback.cc: from dirty blocks to extents. Data first, then a device flush, then the transaction
// that refers to it.
#include <algorithm>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/io_batch.h"

namespace filer::engine {
namespace {
constexpr std::size_t kBatchBlocksMax = 4096;  // 16 MiB between two device flushes
// A run puts at most its own extent and the two ends of one that it splits (1 KiB each): together
// well below a log group.
constexpr std::size_t kRunsPerTransaction = 128;
}  // namespace

struct FileData::FlushItem {
  std::uint64_t block = 0;
  std::uint64_t stamp = 0;
  BufferRef buffer;
  std::uint32_t offset = 0;
  std::byte* data() const { return buffer.data() + offset; }
};

// Consecutive items that go to consecutive blocks.
struct FileData::FlushRun {
  std::size_t first_item = 0;
  BlockRun place;
  std::vector<std::uint32_t> checksums;
};

Result<void> FileData::WriteRuns(std::vector<FlushRun>& runs, const std::vector<FlushItem>& items) {
  IoBatch batch(volume_.device);
  for (FlushRun& run : runs) {
    std::vector<iovec> segments;
    std::uint64_t start = run.place.first;
    std::uint64_t blocks = 0;
    for (std::uint64_t index = 0; index < run.place.count; ++index) {
      const FlushItem& item = items[run.first_item + index];
      run.checksums.push_back(Crc32c({item.data(), kBlockBytes}));
      const bool joins = !segments.empty() && static_cast<std::byte*>(segments.back().iov_base) +
                                                      segments.back().iov_len ==
                                                  item.data();
      if (joins) {
        segments.back().iov_len += kBlockBytes;
      } else {
        if (segments.size() == kRequestSegmentsMax) {
          batch.Submit(BlockOperation::kWrite, start * kBlockBytes, std::move(segments));
          segments = {};
          start += blocks;
          blocks = 0;
        }
        segments.push_back({item.data(), kBlockBytes});
      }
      ++blocks;
    }
    batch.Submit(BlockOperation::kWrite, start * kBlockBytes, std::move(segments));
  }
  FILER_TRY(batch.Wait());
  return volume_.FlushDevice();
}

// The data could not be written or logged: it stays dirty, its promises are renewed, and the
// verifier says that a server-side copy may be lost.
void FileData::AbandonRuns(const NodePtr& node, std::span<const FlushRun> runs,
                           std::span<const FlushItem> items) {
  const std::lock_guard lock(node->mutex);
  for (const FlushRun& run : runs) {
    volume_.allocator.FreeNow(run.place);
    for (const FlushItem& item : items.subspan(run.first_item, run.place.count)) {
      const auto at = node->blocks.find(item.block);
      if (at == node->blocks.end() || at->second.stamp != item.stamp) continue;
      volume_.allocator.ReserveAgain(1);
      at->second.has_reservation = true;
    }
  }
  volume_.ChangeVerifier();
}

Result<void> FileData::CommitRuns(const NodePtr& node, std::span<const FlushRun> runs,
                                  std::span<const FlushItem> items, std::uint64_t size_then) {
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  auto lsn = StageRuns(*node, runs, items, size_then);
  while (!lsn.has_value() && lsn.error() == Errc::kWouldBlock) {  // a snapshot came between
    lsn = StageRuns(*node, runs, items, size_then);
  }
  FILER_TRY(lsn);
  ++node->map_version;
  const std::size_t first_item = runs.front().first_item;
  const std::size_t end_item = runs.back().first_item + runs.back().place.count;
  for (const FlushItem& item : items.subspan(first_item, end_item - first_item)) {
    const auto at = node->blocks.find(item.block);
    if (at == node->blocks.end() || at->second.stamp != item.stamp) continue;
    at->second.is_dirty = false;
    node->dirty.erase(item.block);
    volume_.counters.dirty_bytes.fetch_sub(kBlockBytes, std::memory_order_relaxed);
  }
  return Ok();
}

// Commits the extents, and the size that they need. node.mutex held.
Result<Lsn> FileData::StageRuns(Node& node, std::span<const FlushRun> runs,
                                std::span<const FlushItem> items, std::uint64_t size_then) {
  const std::uint64_t birth = volume_.store->OpenEpoch();
  ExtentEditor editor(*volume_.store, node.inode);
  for (const FlushRun& run : runs) {
    Extent extent;
    extent.file_block = items[run.first_item].block;
    extent.physical = run.place.first;
    extent.length = static_cast<std::uint32_t>(run.place.count);
    extent.birth = birth;
    extent.checksums = run.checksums;
    FILER_TRY(editor.Add(std::move(extent)));
  }
  Transaction transaction;
  transaction.BornIn(birth);
  editor.Emit(transaction);
  Staged staged(node);
  staged.record.blocks += editor.added_blocks();
  staged.record.blocks -= std::min(staged.record.blocks, editor.freed_blocks());
  const std::size_t end_item = runs.back().first_item + runs.back().place.count;
  const std::uint64_t flushed_end = (items[end_item - 1].block + 1) * kBlockBytes;
  staged.stable_size = std::max(staged.stable_size, std::min(size_then, flushed_end));
  const auto each_run = [&](const auto& call) {
    for (const FlushRun& run : runs) {
      const std::uint64_t first = items[run.first_item].block;
      call(first, first + run.place.count);
    }
  };
  each_run([&](auto first, auto end) { CountPromises(node, first, end, staged.promised); });
  const Lsn lsn = FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
  each_run([&](auto first, auto end) { ForgetPromises(node, first, end); });
  return lsn;
}

// flush_mutex held. Moves `first` past what it wrote. False: nothing dirty in the range.
Result<bool> FileData::WriteBackBatch(const NodePtr& node, std::uint64_t& first,
                                      std::uint64_t end) {
  std::vector<FlushItem> items;
  std::uint64_t size_then = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return false;
    size_then = node->record.size;
    for (auto at = node->dirty.lower_bound(first);
         at != node->dirty.end() && *at < end && items.size() < kBatchBlocksMax; ++at) {
      CachedBlock& block = node->blocks.at(*at);
      FILER_ASSERT(block.is_dirty && block.has_reservation);
      block.has_reservation = false;  // spent below
      items.push_back({*at, block.stamp, block.buffer, block.offset});
    }
  }
  if (items.empty()) return false;
  first = items.back().block + 1;
  std::vector<FlushRun> runs;
  for (std::size_t at = 0; at < items.size();) {
    std::size_t count = 1;
    while (at + count < items.size() && count < kExtentBlocksMax &&
           items[at + count].block == items[at].block + count) {
      ++count;
    }
    const BlockRun place = volume_.allocator.AllocateReserved(count);
    runs.push_back({at, place, {}});
    at += place.count;
  }
  std::span<const FlushRun> left(runs);
  auto written = WriteRuns(runs, items);
  while (written.has_value() && !left.empty()) {
    const auto some = left.first(std::min(left.size(), kRunsPerTransaction));
    written = CommitRuns(node, some, items, size_then);
    if (written.has_value()) left = left.subspan(some.size());
  }
  if (!written.has_value()) {
    AbandonRuns(node, left, items);
    if (written.error() == Errc::kStaleHandle) return false;
    FILER_LOG_ERROR("inode {}: write-back failed: {}", node->inode, written.error().message());
    return written.error();
  }
  return true;
}

Result<void> FileData::WriteBackLocked(const NodePtr& node, std::uint64_t first,
                                       std::uint64_t end) {
  FILER_TRY(FinishTruncation(node));
  // One pass: what is made dirty again behind it is for the next one.
  while (FILER_TRY(WriteBackBatch(node, first, end))) {
  }
  return PersistAttributes(node);
}

Result<void> FileData::PersistAttributes(const NodePtr& node) {
  const std::lock_guard lock(node->mutex);
  if (!node->is_dead && node->are_attributes_dirty) {
    Staged staged(*node);
    if (node->dirty.empty()) staged.stable_size = staged.record.size;
    FILER_TRY(volume_.Commit({}, {&staged}));
  }
  volume_.ForgetDirty(node);
  return Ok();
}

Result<void> FileData::WriteBack(const NodePtr& node, std::uint64_t first_block,
                                 std::uint64_t end_block) {
  const std::lock_guard lock(node->flush_mutex);
  return WriteBackLocked(node, first_block, end_block);
}

Result<WriteVerifier> FileData::Commit(NodeId id, std::uint64_t offset_bytes,
                                       std::uint64_t length_bytes) {
  const NodePtr node = FILER_TRY(GetFile(id));
  const std::uint64_t first = offset_bytes / kBlockBytes;
  const bool is_to_end = length_bytes == 0 || length_bytes >= kFileBytesMax;
  const std::uint64_t end =
      is_to_end ? UINT64_MAX : RoundUp(offset_bytes + length_bytes, kBlockBytes) / kBlockBytes;
  const WriteVerifier verifier = volume_.Verifier();
  if (volume_.options.read_only) return verifier;  // all there is, is durable
  FILER_TRY(WriteBack(node, first, end));
  Lsn lsn = 0;
  {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    // All of the range is durable now, so the size may be as far as it reaches: a hole that an
    // unstable write behind it has made is part of the file, too.
    const std::uint64_t reached = is_to_end ? 0 : std::min(node->record.size, end * kBlockBytes);
    if (node->stable_size < reached) {
      Staged staged(*node);
      staged.stable_size = reached;
      FILER_TRY(volume_.Commit({}, {&staged}));
    }
    lsn = node->last_lsn;
  }
  FILER_TRY(volume_.Sync(lsn));
  volume_.counters.commits.fetch_add(1, std::memory_order_relaxed);
  return verifier;
}

Result<void> FileData::SyncAll() {
  if (volume_.options.read_only) return Ok();
  for (const NodePtr& node : volume_.DirtyNodes()) FILER_TRY(WriteBack(node, 0, UINT64_MAX));
  return volume_.Sync(volume_.store->LastLsn());
}

void FileData::WriteBackOld(std::int64_t older_than_ns) {
  const std::int64_t now = volume_.clock.MonotonicNs();
  for (const NodePtr& node : volume_.DirtyNodes()) {
    {
      const std::lock_guard lock(node->mutex);
      if (now - node->dirty_since_ns < older_than_ns) continue;
    }
    // Only a try: whoever holds it writes this file back already, or waits for memory that we are
    // to make; that may be this very thread, whom POSIX promises the answer "busy", too.
    const std::unique_lock<std::mutex> lock(node->flush_mutex, std::try_to_lock);
    if (!lock.owns_lock()) continue;
    if (!WriteBackLocked(node, 0, UINT64_MAX).has_value()) return;  // logged; tried again later
  }
}

}  // namespace filer::engine
