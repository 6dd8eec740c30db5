#include "fsal/engine/tree/checkpoint.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/units.h"
#include "fsal/engine/format/checkpoint_chunk.h"
#include "fsal/engine/format/record.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kCompletionsPerPoll = 32;

// Fills chunks with a stream of bytes; while one is filled, the other one is written.
class ChunkStream {
 public:
  ChunkStream(BlockDevice& device, const VolumeLayout& layout, const VolumeUuid& uuid,
              const CheckpointExtent& extent, const CheckpointBuffers& buffers)
      : device_(device), layout_(layout), uuid_(uuid), extent_(extent) {
    for (std::size_t at = 0; at < slots_.size(); ++at) slots_[at].buffer = buffers[at];
  }
  ~ChunkStream() {
    for (auto& slot : slots_) Await(slot);
  }

  Result<void> Append(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto part = bytes.substr(0, kChunkPayloadBytesMax - used_);
      std::memcpy(Current().buffer.data() + sizeof(ChunkHeader) + used_, part.data(), part.size());
      used_ += part.size();
      extent_.bytes += part.size();
      bytes.remove_prefix(part.size());
      if (used_ == kChunkPayloadBytesMax) FILER_TRY(WriteChunk());
    }
    return Ok();
  }

  Result<CheckpointExtent> Finish() {
    if (used_ > 0) FILER_TRY(WriteChunk());
    for (auto& slot : slots_) {
      Await(slot);
      FILER_TRY(Outcome(slot));
    }
    return extent_;
  }

 private:
  struct Slot {
    BufferRef buffer;
    BlockRequest request;
    iovec segment{};
    bool is_started = false;
  };

  Slot& Current() { return slots_[extent_.chunks % slots_.size()]; }

  void Await(Slot& slot) {
    if (!slot.is_started) return;
    while (
        !slot.request.is_done.load(std::memory_order_acquire)) {  // pairs with the device's release
      if (device_.Poll(kCompletionsPerPoll) == 0) device_.Relax();
    }
    slot.is_started = false;
  }

  static Result<void> Outcome(const Slot& slot) {
    if (slot.request.is_done.load(std::memory_order_relaxed) && !slot.request.is_ok) {
      return Error(slot.request.status);
    }
    return Ok();
  }

  Result<void> WriteChunk() {
    auto& slot = Current();
    const auto length = SealChunk(slot.buffer.bytes(), uuid_, extent_.id, extent_.chunks,
                                  static_cast<std::uint32_t>(used_));
    const auto header = LoadStruct<ChunkHeader>(slot.buffer.bytes());
    extent_.crc32c = Crc32c(std::as_bytes(std::span(&header.crc32c, 1)), extent_.crc32c);
    const auto offset = extent_.chunks * kCheckpointChunkBytes;
    FILER_ASSERT(offset + length <= layout_.area_block_count * kMetaBlockBytes);
    slot.segment = {slot.buffer.data(), length};
    slot.request.operation = BlockOperation::kWrite;
    slot.request.offset_bytes = layout_.area_first_block[extent_.area] * kMetaBlockBytes + offset;
    slot.request.length_bytes = length;
    slot.request.segments = std::span(&slot.segment, 1);
    slot.request.is_ok = false;
    slot.request.is_done.store(false,
                               std::memory_order_relaxed);  // nobody else sees it before Submit
    for (;;) {
      const auto started = device_.Submit(slot.request);
      if (started.has_value()) break;
      if (started.error() != Errc::kWouldBlock) return started.error();
      if (device_.Poll(kCompletionsPerPoll) == 0) device_.Relax();
    }
    slot.is_started = true;
    ++extent_.chunks;
    used_ = 0;
    Await(Current());  // the one to fill next
    return Outcome(Current());
  }

  BlockDevice& device_;
  const VolumeLayout& layout_;
  const VolumeUuid& uuid_;
  CheckpointExtent extent_;
  std::array<Slot, 2> slots_;
  std::size_t used_ = 0;  // of the current chunk's payload
};

// Takes the complete records off `carry` into `tree`.
Result<void> TakeRecords(std::string& carry, std::string& last_key, CowTree& tree) {
  std::string_view rest = carry;
  while (const auto pair = FILER_TRY(TakePair(rest))) {
    if (!pair->value) return Error(Errc::kCorrupt, "checkpoint: an erased key");
    if (pair->key <= last_key) return Error(Errc::kCorrupt, "checkpoint: keys out of order");
    tree.Put(pair->key, *pair->value);
    last_key = std::string(pair->key);
  }
  carry.erase(0, carry.size() - rest.size());
  return Ok();
}

}  // namespace

Result<CheckpointBuffers> AllocateCheckpointBuffers(BlockDevice& device) {
  CheckpointBuffers buffers;
  for (auto& buffer : buffers) {
    buffer = FILER_TRY(device.Pool().Allocate(kCheckpointChunkBytes));
  }
  return buffers;
}

std::uint64_t CheckpointCapacity(const VolumeLayout& layout) noexcept {
  return layout.area_block_count * kMetaBlockBytes / kCheckpointChunkBytes * kChunkPayloadBytesMax;
}

Result<CheckpointExtent> WriteCheckpoint(BlockDevice& device, const VolumeLayout& layout,
                                         const VolumeUuid& uuid, std::uint64_t id,
                                         std::uint32_t area, const CowTree::Snapshot& snapshot,
                                         const CheckpointBuffers& buffers) {
  CheckpointExtent extent;
  extent.id = id;
  extent.area = area;
  ChunkStream stream(device, layout, uuid, extent, buffers);
  std::string record;
  std::optional<Error> failure;
  std::uint64_t key_count = 0;
  snapshot.ForEach([&](std::string_view key, std::string_view value) {
    record.clear();
    AppendPair(record, key, value);
    const auto appended = stream.Append(record);
    if (!appended.has_value()) failure = appended.error();
    ++key_count;
    return !failure;
  });
  if (failure) return *failure;
  auto written = FILER_TRY(stream.Finish());
  written.key_count = key_count;
  return written;
}

Result<void> ReadCheckpoint(BlockDevice& device, const VolumeLayout& layout, const Uberblock& root,
                            CowTree& tree, std::uint64_t& stream_bytes) {
  const auto corrupt = [&](std::string_view what) {
    return Error(Errc::kCorrupt, fmt::format("checkpoint {}: {}; restore the volume from a backup",
                                             root.checkpoint_id.value(), what));
  };
  const auto uuid = ToUuid(root.volume_uuid);
  const auto area_offset = layout.area_first_block[root.checkpoint_area] * kMetaBlockBytes;
  std::vector<std::byte> chunk(kCheckpointChunkBytes);
  std::string carry;
  std::string last_key;
  std::uint32_t crc32c = 0;
  stream_bytes = 0;
  for (std::uint64_t index = 0; index < root.checkpoint_chunks; ++index) {
    // The uberblock says how long the last one is; what lies behind it is not ours to read.
    const auto left = root.checkpoint_bytes - stream_bytes;
    const auto length =
        RoundUp(sizeof(ChunkHeader) + std::min(left, kChunkPayloadBytesMax), kMetaBlockBytes);
    const auto bytes = std::span(chunk).first(length);
    FILER_TRY(ReadBlocking(device, area_offset + index * kCheckpointChunkBytes, bytes));
    const auto payload = FILER_TRY(DecodeChunk(bytes, uuid, root.checkpoint_id, index));
    if (payload.size() != std::min(left, kChunkPayloadBytesMax)) return corrupt("chunk length");
    const auto header = LoadStruct<ChunkHeader>(bytes);
    crc32c = Crc32c(std::as_bytes(std::span(&header.crc32c, 1)), crc32c);
    carry.append(reinterpret_cast<const char*>(payload.data()), payload.size());
    stream_bytes += payload.size();
    FILER_TRY(TakeRecords(carry, last_key, tree));
  }
  if (!carry.empty()) return corrupt("the last record is cut short");
  if (crc32c != root.checkpoint_crc32c || tree.size() != root.key_count) {
    return corrupt("does not match its uberblock");
  }
  return Ok();
}

}  // namespace filer::engine
