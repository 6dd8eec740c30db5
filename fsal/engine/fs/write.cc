// write.cc: writes into the cache. The payload is copied once, into buffers that nobody else sees
// yet; then, under the node's lock, the edges are completed from what was there and the blocks join
// the cache.
#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "fsal/engine/fs/file_data.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kPieceBytesMax = 1 << 20;
constexpr std::uint64_t kWriteBytesMax = 16ULL << 20;
constexpr int kEdgeRetries = 1000;

// Copies `length` bytes that begin `skip` bytes into `from`.
class IovecReader {
 public:
  IovecReader(std::span<const iovec> from, std::uint64_t skip) : from_(from), skip_(skip) {
    while (!from_.empty() && skip_ >= from_.front().iov_len) Next();
  }
  void Copy(std::byte* to, std::uint64_t length) {
    while (length > 0) {
      const std::uint64_t some = std::min<std::uint64_t>(length, from_.front().iov_len - skip_);
      std::memcpy(to, static_cast<const std::byte*>(from_.front().iov_base) + skip_, some);
      to += some;
      skip_ += some;
      length -= some;
      while (!from_.empty() && skip_ >= from_.front().iov_len) Next();
    }
  }

 private:
  void Next() {
    skip_ -= from_.front().iov_len;
    from_ = from_.subspan(1);
  }
  std::span<const iovec> from_;
  std::uint64_t skip_;
};

}  // namespace

// Buffers of a write before they are published.
struct FileData::Staging {
  std::uint64_t begin = 0, end = 0;  // bytes of the file
  std::uint64_t first_block = 0;
  std::vector<CachedBlock> blocks;
  std::uint64_t end_block() const { return first_block + blocks.size(); }
  std::byte* BlockData(std::uint64_t block) { return blocks[block - first_block].data(); }
};

Result<void> FileData::Stage(std::uint64_t offset, std::span<const iovec> data, std::uint64_t skip,
                             std::uint64_t length, Staging& staging) {
  staging.begin = offset;
  staging.end = offset + length;
  staging.first_block = offset / kBlockBytes;
  const std::uint64_t count = RoundUp(staging.end, kBlockBytes) / kBlockBytes - staging.first_block;
  IovecReader reader(data, skip);
  std::uint64_t at = offset;
  while (staging.blocks.size() < count) {
    const BufferRef buffer =
        FILER_TRY(buffers_.Allocate((count - staging.blocks.size()) * kBlockBytes));
    const std::uint64_t buffer_begin = (staging.first_block + staging.blocks.size()) * kBlockBytes;
    const std::uint64_t fits =
        std::min<std::uint64_t>(buffer.size() / kBlockBytes, count - staging.blocks.size());
    const std::uint64_t copy_end = std::min(staging.end, buffer_begin + fits * kBlockBytes);
    reader.Copy(buffer.data() + (at - buffer_begin), copy_end - at);
    at = copy_end;
    for (std::uint64_t index = 0; index < fits; ++index) {
      CachedBlock& block = staging.blocks.emplace_back();
      block.buffer = buffer;
      block.offset = static_cast<std::uint32_t>(index * kBlockBytes);
      block.is_dirty = true;
      block.has_reservation = true;
    }
  }
  volume_.counters.copied_write_bytes.fetch_add(length, std::memory_order_relaxed);
  return Ok();
}

// Node locked. Completes the first and last block from what the file holds. False: `missing_block`
// must be loaded first.
Result<bool> FileData::FillEdges(Node& node, Staging& staging, std::uint64_t* missing_block) {
  const auto fill = [&](std::uint64_t block, std::uint64_t from, std::uint64_t to) -> Result<bool> {
    std::byte* target = staging.BlockData(block) + from;
    const auto cached = node.blocks.find(block);
    if (cached != node.blocks.end()) {
      std::memcpy(target, cached->second.data() + from, to - from);
      return true;
    }
    const bool may_hold_data =
        block * kBlockBytes + from < node.record.size && block < node.hidden_from_block;
    if (may_hold_data) {
      const auto extents = FILER_TRY(FindExtents(*volume_.store, node.inode, block, block + 1));
      if (!extents.empty() && !extents.front().is_unwritten) {
        *missing_block = block;
        return false;
      }
    }
    std::memset(target, 0, to - from);
    return true;
  };
  const std::uint64_t head = staging.begin % kBlockBytes;
  if (head != 0 && !FILER_TRY(fill(staging.first_block, 0, head))) return false;
  const std::uint64_t tail = staging.end % kBlockBytes;
  if (tail != 0) return fill(staging.end_block() - 1, tail, kBlockBytes);
  return true;
}

// Node locked.
void FileData::Install(const NodePtr& node, Staging& staging) {
  std::uint64_t new_first = 0;
  std::uint64_t new_count = 0;
  const auto announce = [&] {
    if (new_count > 0) buffers_.Added(node, new_first, new_count);
    new_count = 0;
  };
  for (std::uint64_t index = 0; index < staging.blocks.size(); ++index) {
    const std::uint64_t block = staging.first_block + index;
    CachedBlock& fresh = staging.blocks[index];
    fresh.stamp = volume_.next_stamp.fetch_add(1, std::memory_order_relaxed);
    const auto [at, is_new] = node->blocks.try_emplace(block);
    if (is_new) {
      volume_.counters.cached_bytes.fetch_add(kBlockBytes, std::memory_order_relaxed);
      if (new_count == 0) new_first = block;
      ++new_count;
    } else {
      announce();
      if (at->second.has_reservation)
        volume_.allocator.Unreserve(1);  // the new one brought its own
    }
    if (!at->second.is_dirty) {
      volume_.counters.dirty_bytes.fetch_add(kBlockBytes, std::memory_order_relaxed);
    }
    at->second = std::move(fresh);
    node->dirty.insert(block);
  }
  announce();
  volume_.MarkDirty(node);
}

Result<void> FileData::WritePiece(const NodePtr& node, std::uint64_t offset,
                                  std::span<const iovec> data, std::uint64_t skip,
                                  std::uint64_t length, Extend extend, QuotaRule rule,
                                  Attributes* after) {
  Staging staging;
  FILER_TRY(Stage(offset, data, skip, length, staging));
  const std::uint64_t count = staging.blocks.size();
  // Only the edges of a hole never extend: they must be zeroed on a full volume, too.
  FILER_TRY(volume_.ReserveBlocks(count, extend == Extend::kNever));
  for (int attempt = 0; attempt < kEdgeRetries; ++attempt) {
    std::uint64_t missing_block = 0;
    {
      const std::lock_guard lock(node->mutex);
      Result<bool> filled = Errc::kStaleHandle;
      if (!node->is_dead) {
        const bool fits = extend == Extend::kAsNeeded || staging.end <= node->record.size;
        filled = fits ? FillEdges(*node, staging, &missing_block) : Errc::kOutOfRange;
        if (filled.has_value() && filled.value()) {
          const auto promised = PromiseBlocks(*node, staging.first_block, staging.blocks, rule);
          if (!promised.has_value()) filled = promised.error();
        }
      }
      if (!filled.has_value()) {
        volume_.allocator.Unreserve(count);
        return filled.error();
      }
      if (filled.value()) {
        Install(node, staging);
        node->record.size = std::max(node->record.size, staging.end);
        volume_.TouchContent(node->record);
        node->are_attributes_dirty = true;
        if (after != nullptr) *after = volume_.AttributesOf(*node);
        return Ok();
      }
    }
    const auto loaded = LoadBlock(node, missing_block);
    if (!loaded.has_value()) {
      volume_.allocator.Unreserve(count);
      return loaded.error();
    }
  }
  volume_.allocator.Unreserve(count);
  return Error(Errc::kNoMemory, "a block leaves memory before it can be changed");
}

// Too much unstable data: the writer helps, with its own file first.
Result<void> FileData::Throttle(const NodePtr& node) {
  // A cache of dirty blocks only could not make room for any other.
  const std::uint64_t dirty_max =
      std::min(volume_.options.dirty_bytes_max, buffers_.cache_bytes_max() / 2);
  const auto is_over = [&] {
    return volume_.counters.dirty_bytes.load(std::memory_order_relaxed) > dirty_max;
  };
  if (!is_over()) return Ok();
  FILER_TRY(WriteBack(node, 0, UINT64_MAX));
  if (!is_over()) return Ok();
  for (const NodePtr& other : volume_.DirtyNodes()) {
    FILER_TRY(WriteBack(other, 0, UINT64_MAX));
    if (!is_over()) return Ok();
  }
  return Ok();
}

Result<WriteResult> FileData::Write(NodeId id, std::uint64_t offset_bytes,
                                    std::span<const iovec> data, Stability stability,
                                    QuotaRule rule) {
  FILER_TRY(volume_.CheckWritable());
  const NodePtr node = FILER_TRY(GetFile(id));
  std::uint64_t length = 0;
  for (const iovec& segment : data) length += segment.iov_len;
  if (length > kWriteBytesMax) return Errc::kTooBig;
  if (offset_bytes > kFileBytesMax || length > kFileBytesMax - offset_bytes) {
    return Errc::kFileTooBig;
  }
  WriteResult result;
  result.verifier = volume_.Verifier();  // before: a loss during the write must show
  if (length == 0) {
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    result.attributes = volume_.AttributesOf(*node);
  }
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t at = offset_bytes + done;
    const std::uint64_t piece = std::min(length - done, kPieceBytesMax - at % kBlockBytes);
    FILER_TRY(Throttle(node));
    FILER_TRY(WritePiece(node, at, data, done, piece, Extend::kAsNeeded, rule, &result.attributes));
    done += piece;
  }
  result.length_bytes = length;
  result.committed = stability;
  if (stability != Stability::kUnstable) {
    FILER_TRY(WriteBack(node, offset_bytes / kBlockBytes,
                        RoundUp(offset_bytes + length, kBlockBytes) / kBlockBytes));
    Lsn lsn = 0;
    {
      const std::lock_guard lock(node->mutex);
      lsn = node->last_lsn;
    }
    FILER_TRY(volume_.Sync(lsn));
    result.committed = Stability::kFileSync;
  }
  volume_.counters.writes.fetch_add(1, std::memory_order_relaxed);
  volume_.counters.write_bytes.fetch_add(length, std::memory_order_relaxed);
  if (length > 0) volume_.NotifyChange({{id, {}}});
  return result;
}

}  // namespace filer::engine
