// read.cc: reads. A plan is made under the node's lock (which blocks are in memory, which lie
// where), what is missing is read from the device without locks, verified, and joins the cache if
// the file's extents did not change meanwhile.
#include <algorithm>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/io_batch.h"

namespace filer::engine {
namespace {
constexpr std::uint64_t kReadBytesMax = 16ULL << 20;
constexpr int kReadRetries = 64;
constexpr std::int64_t kRelatimeNs = 24LL * 3600 * 1'000'000'000;
}  // namespace

// Consecutive blocks that come from one place.
struct FileData::Piece {
  enum class From { kMemory, kZero, kDevice } from = From::kZero;
  std::uint64_t first_block = 0;
  std::uint64_t count = 0;
  BufferRef buffer;            // kMemory; kDevice once it was read
  std::uint32_t offset = 0;    // in the buffer
  std::uint64_t physical = 0;  // kDevice
  std::vector<std::uint32_t> checksums;
};

struct FileData::ReadPlan {
  std::uint64_t offset = 0;
  std::uint64_t end = 0;  // bytes, cut at the end of the file
  bool is_end_of_file = false;
  bool needs_device = false;
  std::uint64_t map_version = 0;
  Attributes attributes;
  std::vector<Piece> pieces;
};

FileData::FileData(Volume& volume, BufferSource& buffers) : volume_(volume), buffers_(buffers) {}

Result<void> FileData::Start() {
  zeroes_ = FILER_TRY(buffers_.Zeroes());
  return Ok();
}

Result<NodePtr> FileData::GetFile(NodeId id) {
  NodePtr node = FILER_TRY(volume_.GetNode(id));
  if (node->kind == NodeKind::kDirectory) return Errc::kIsDirectory;
  if (node->kind != NodeKind::kFile) return Errc::kInvalidArgument;
  return node;
}

void FileData::TouchAccessTime(const NodePtr& node) {
  InodeRecord& record = node->record;
  const std::int64_t now = volume_.NowNs();
  const bool is_due = record.atime_ns <= record.mtime_ns || record.atime_ns <= record.ctime_ns ||
                      now - record.atime_ns > kRelatimeNs;
  if (!is_due || volume_.options.read_only || record.atime_ns == now) return;
  record.atime_ns = now;
  node->are_attributes_dirty = true;
  volume_.MarkDirty(node);
}

// Node locked. Blocks [first, end). Errors: kCorrupt, the device's: where blocks lie is not known
// then, and nothing may be made up for them.
Result<void> FileData::PlanBlocks(Node& node, std::uint64_t first, std::uint64_t end,
                                  ReadPlan& plan) {
  const auto list = FILER_TRY(FindExtents(*volume_.store, node.inode, first,
                                          std::min(end, std::max(first, node.hidden_from_block))));
  auto extent = list.begin();
  auto cached = node.blocks.lower_bound(first);
  std::uint64_t block = first;
  while (block < end) {
    while (cached != node.blocks.end() && cached->first < block) ++cached;
    if (cached != node.blocks.end() && cached->first == block) {
      cached->second.is_referenced = true;
      const CachedBlock& source = cached->second;
      Piece* last = plan.pieces.empty() ? nullptr : &plan.pieces.back();
      if (last != nullptr && last->from == Piece::From::kMemory &&
          last->buffer.data() == source.buffer.data() &&
          last->offset + last->count * kBlockBytes == source.offset) {
        ++last->count;
      } else {
        Piece& piece = plan.pieces.emplace_back();
        piece.from = Piece::From::kMemory;
        piece.first_block = block;
        piece.count = 1;
        piece.buffer = source.buffer;
        piece.offset = source.offset;
      }
      ++block;
      continue;
    }
    const std::uint64_t limit = cached != node.blocks.end() ? std::min(end, cached->first) : end;
    while (extent != list.end() && extent->end() <= block) ++extent;
    Piece& piece = plan.pieces.emplace_back();
    piece.first_block = block;
    if (extent == list.end() || extent->file_block > block) {
      const std::uint64_t next = extent == list.end() ? limit : std::min(limit, extent->file_block);
      piece.count = next - block;
    } else {
      piece.count = std::min(limit, extent->end()) - block;
      if (!extent->is_unwritten) {
        const Extent slice = SliceExtent(*extent, block, block + piece.count);
        piece.from = Piece::From::kDevice;
        piece.physical = slice.physical;
        piece.checksums = slice.checksums;
        plan.needs_device = true;
      }
    }
    block += piece.count;
  }
  return Ok();
}

Result<void> FileData::PlanRead(const NodePtr& node, std::uint64_t offset, std::uint64_t length,
                                Engine::AccessTime access_time, ReadPlan& plan) {
  const std::lock_guard lock(node->mutex);
  if (node->is_dead) return Errc::kStaleHandle;
  const std::uint64_t size = node->record.size;
  plan = ReadPlan{};
  plan.offset = offset;
  plan.end = offset >= size ? offset : offset + std::min(length, size - offset);
  plan.is_end_of_file = plan.end >= size;
  plan.map_version = node->map_version;
  if (plan.end > plan.offset) {
    FILER_TRY(PlanBlocks(*node, offset / kBlockBytes, RoundUp(plan.end, kBlockBytes) / kBlockBytes,
                         plan));
  }
  if (access_time == Engine::AccessTime::kTouch) TouchAccessTime(node);
  plan.attributes = volume_.AttributesOf(*node);
  return Ok();
}

// Reads what is missing. False: extents changed under the read, plan anew. Errors: kCorrupt, the
// device's.
Result<bool> FileData::FillFromDevice(const NodePtr& node, ReadPlan& plan) {
  std::vector<Piece> filled;
  {
    IoBatch batch(volume_.device);
    for (Piece& piece : plan.pieces) {
      if (piece.from != Piece::From::kDevice) {
        filled.push_back(std::move(piece));
        continue;
      }
      for (std::uint64_t done = 0; done < piece.count;) {
        Piece part;
        part.from = Piece::From::kDevice;
        part.first_block = piece.first_block + done;
        part.physical = piece.physical + done;
        part.buffer = FILER_TRY(buffers_.Allocate((piece.count - done) * kBlockBytes));
        part.count = std::min<std::uint64_t>(part.buffer.size() / kBlockBytes, piece.count - done);
        part.checksums.assign(
            piece.checksums.begin() + static_cast<std::ptrdiff_t>(done),
            piece.checksums.begin() + static_cast<std::ptrdiff_t>(done + part.count));
        batch.Submit(BlockOperation::kRead, part.physical * kBlockBytes,
                     {{part.buffer.data(), part.count * kBlockBytes}});
        done += part.count;
        filled.push_back(std::move(part));
      }
    }
    FILER_TRY(batch.Wait());
  }
  plan.pieces = std::move(filled);
  bool is_sound = true;
  for (const Piece& piece : plan.pieces) {
    for (std::size_t index = 0; index < piece.checksums.size(); ++index) {
      const auto bytes = piece.buffer.bytes().subspan(index * kBlockBytes, kBlockBytes);
      if (Crc32c(bytes) != piece.checksums[index]) is_sound = false;
    }
  }
  const std::lock_guard lock(node->mutex);
  const bool is_unchanged = node->map_version == plan.map_version;
  if (!is_sound && is_unchanged) {
    FILER_LOG_ERROR("inode {}: data on the volume does not match its checksum", node->inode);
    return Error(Errc::kCorrupt, "data does not match its checksum");
  }
  if (!is_sound) return false;  // a block moved while it was read
  if (!is_unchanged || node->is_dead)
    return true;  // right when the plan was made: good to return, not to keep
  for (const Piece& piece : plan.pieces) {
    if (piece.from != Piece::From::kDevice) continue;
    for (std::uint64_t index = 0; index < piece.count; ++index) {
      CachedBlock block;
      block.buffer = piece.buffer;
      block.offset = static_cast<std::uint32_t>(index * kBlockBytes);
      block.stamp = volume_.next_stamp.fetch_add(1, std::memory_order_relaxed);
      if (node->blocks.emplace(piece.first_block + index, std::move(block)).second) {
        volume_.counters.cached_bytes.fetch_add(kBlockBytes, std::memory_order_relaxed);
      }
    }
    buffers_.Added(node, piece.first_block, piece.count);
    volume_.counters.cache_miss_blocks.fetch_add(piece.count, std::memory_order_relaxed);
  }
  return true;
}

ReadResult FileData::Assemble(const ReadPlan& plan) const {
  ReadResult result;
  result.length_bytes = plan.end - plan.offset;
  result.is_end_of_file = plan.is_end_of_file;
  result.attributes = plan.attributes;
  std::uint64_t hits = 0;
  for (const Piece& piece : plan.pieces) {
    const std::uint64_t begin = std::max(plan.offset, piece.first_block * kBlockBytes);
    const std::uint64_t end = std::min(plan.end, (piece.first_block + piece.count) * kBlockBytes);
    if (piece.from == Piece::From::kZero) {
      for (std::uint64_t at = begin; at < end;) {
        const std::uint64_t length = std::min<std::uint64_t>(end - at, kZeroBytes);
        result.segments.push_back({zeroes_.data(), length});
        at += length;
      }
      continue;
    }
    if (piece.from == Piece::From::kMemory) hits += piece.count;
    std::byte* data =
        piece.buffer.data() + piece.offset + (begin - piece.first_block * kBlockBytes);
    result.segments.push_back({data, end - begin});
    result.holds.push_back(piece.buffer);
  }
  result.holds.push_back(zeroes_);
  VolumeCounters& counters = volume_.counters;
  counters.reads.fetch_add(1, std::memory_order_relaxed);
  counters.read_bytes.fetch_add(result.length_bytes, std::memory_order_relaxed);
  counters.cache_hit_blocks.fetch_add(hits, std::memory_order_relaxed);
  return result;
}

Result<ReadResult> FileData::Read(NodeId id, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                  Engine::AccessTime access_time) {
  const NodePtr node = FILER_TRY(GetFile(id));
  const std::uint64_t length = std::min(length_bytes, kReadBytesMax);
  ReadPlan plan;
  for (int attempt = 0; attempt < kReadRetries; ++attempt) {
    // The last tries keep writers from moving blocks.
    std::unique_lock<std::mutex> still(node->flush_mutex, std::defer_lock);
    if (attempt > kReadRetries / 2) still.lock();
    FILER_TRY(PlanRead(node, offset_bytes, length, access_time, plan));
    if (!plan.needs_device || FILER_TRY(FillFromDevice(node, plan))) return Assemble(plan);
  }
  return Errc::kIo;
}

std::optional<Result<ReadResult>> FileData::TryReadCached(NodeId id, std::uint64_t offset_bytes,
                                                          std::uint64_t length_bytes) {
  const auto node = GetFile(id);
  if (!node.has_value()) return Result<ReadResult>(node.error());
  ReadPlan plan;
  const auto planned = PlanRead(node.value(), offset_bytes, std::min(length_bytes, kReadBytesMax),
                                Engine::AccessTime::kTouch, plan);
  if (!planned.has_value()) return Result<ReadResult>(planned.error());
  if (plan.needs_device) return std::nullopt;
  return Result<ReadResult>(Assemble(plan));
}

Result<void> FileData::LoadBlock(const NodePtr& node, std::uint64_t block) {
  for (int attempt = 0; attempt < kReadRetries; ++attempt) {
    ReadPlan plan;
    {
      const std::lock_guard lock(node->mutex);
      if (node->is_dead) return Errc::kStaleHandle;
      plan.map_version = node->map_version;
      FILER_TRY(PlanBlocks(*node, block, block + 1, plan));
    }
    if (!plan.needs_device || FILER_TRY(FillFromDevice(node, plan))) return Ok();
  }
  return Errc::kIo;
}

}  // namespace filer::engine
