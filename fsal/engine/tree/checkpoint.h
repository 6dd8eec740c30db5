// checkpoint.h: the whole map, written to and read from one of the two checkpoint areas.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/uberblock.h"
#include "fsal/engine/tree/cow_tree.h"

namespace filer::engine {

struct CheckpointExtent {
  std::uint64_t id = 0;
  std::uint32_t area = 0;
  std::uint32_t crc32c = 0;
  std::uint64_t bytes = 0;
  std::uint64_t chunks = 0;
  std::uint64_t key_count = 0;
};

// Two buffers of a chunk each, taken once: a checkpoint must not fail because others hold the pool.
using CheckpointBuffers = std::array<BufferRef, 2>;
Result<CheckpointBuffers> AllocateCheckpointBuffers(BlockDevice& device);

// Bytes of records that fit one area.
std::uint64_t CheckpointCapacity(const VolumeLayout& layout) noexcept;

// Streams `snapshot` into area `area`, two chunks in flight. The caller flushes and has seen to it
// that it fits. Blocking; polls. Errors: kNoMemory, the device's.
Result<CheckpointExtent> WriteCheckpoint(BlockDevice& device, const VolumeLayout& layout,
                                         const VolumeUuid& uuid, std::uint64_t id,
                                         std::uint32_t area, const CowTree::Snapshot& snapshot,
                                         const CheckpointBuffers& buffers);

// Reads the checkpoint of `root` into `tree` (empty). Sets `stream_bytes`. Errors: kCorrupt, the
// device's. Blocking.
Result<void> ReadCheckpoint(BlockDevice& device, const VolumeLayout& layout, const Uberblock& root,
                            CowTree& tree, std::uint64_t& stream_bytes);

}  // namespace filer::engine
