// volume.h: the fixed parts of a volume on its device: label and uberblocks, read and written.
// Blocking; for set-up and checkpoints.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/uberblock.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

// What the label said, and what was wrong with one of its two copies.
struct LoadedLabel {
  Label label{};
  bool is_first_damaged = false;
  bool is_copy_damaged = false;
};

// The label from block 0, or else its copy. Errors: kNotOurs, kCorrupt, kNewerVersion, kTooSmall,
// the device's.
Result<LoadedLabel> LoadLabel(BlockDevice& device);

// Writes `label` into block 0 and its copy's block, whichever is asked for. The caller flushes.
Result<void> WriteLabel(BlockDevice& device, Label label, bool first, bool copy);

// The newest uberblock that verifies. Errors: kCorrupt, kNewerVersion, the device's.
Result<Uberblock> LoadUberblock(BlockDevice& device, const VolumeLayout& layout,
                                const VolumeUuid& uuid);

// Seals and writes `root` to its slot in both rings through `buffer`, then flushes.
Result<void> WriteUberblock(BlockDevice& device, const VolumeLayout& layout, Uberblock root,
                            const BufferRef& buffer);

// FlushBlocking where the device needs it.
Result<void> FlushIfCached(BlockDevice& device);

Result<void> FormatVolume(BlockDevice& device, const StoreFormatOptions& options);

// A new number from what is unique about a mount; not secret.
std::uint64_t MixLogEpoch(const VolumeUuid& uuid, std::uint64_t mount_epoch, std::int64_t now_ns);

}  // namespace filer::engine
