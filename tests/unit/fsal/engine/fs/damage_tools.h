// damage_tools.h: where things lie on a volume that is not mounted or at rest, and how to damage
// them behind the engine's back.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/units.h"
#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

inline std::vector<std::byte> NodeAt(BlockDevice& device, std::uint64_t block) {
  std::vector<std::byte> bytes(kNodeBytes);
  EXPECT_TRUE(ReadBlocking(device, block * kMetaBlockBytes, bytes).has_value());
  return bytes;
}

// Of the newest checkpoint: its uberblock, and the tree of the first fileset.
inline Uberblock NewestRoot(BlockDevice& device) {
  const Label label = LoadLabel(device).value().label;
  return LoadUberblock(device, LayoutOf(label), ToUuid(label.volume_uuid)).value();
}
inline TreeRecord FirstTree(BlockDevice& device) {
  const Label label = LoadLabel(device).value().label;
  const Uberblock root = NewestRoot(device);
  EXPECT_EQ(root.table_piece_count, 1U);
  const auto bytes = NodeAt(device, root.table[0].block);
  return DecodeTreeTable(NodeView(bytes.data()).piece(), LayoutOf(label), root.tree_epoch)
      .value()
      .records.at(1);
}

// The blocks of the nodes from the root down to the leaf that `key` belongs to, as of the newest
// checkpoint.
inline std::vector<std::uint64_t> NodesTo(BlockDevice& device, std::string_view key) {
  const Label label = LoadLabel(device).value().label;
  const TreeRecord root = FirstTree(device);
  std::vector<std::uint64_t> blocks;
  NodePointer pointer = root.root;
  for (std::uint32_t level = root.level;; --level) {
    blocks.push_back(pointer.block);
    const auto bytes = NodeAt(device, pointer.block);
    EXPECT_TRUE(CheckNode(bytes, ToUuid(label.volume_uuid), pointer, level).has_value());
    if (level == 0) return blocks;
    const NodeView view(bytes.data());
    pointer = view.child(view.ChildFor(key));
  }
}

// Inverts one bit of what the device holds.
inline void FlipBit(BlockDevice& device, std::uint64_t block, std::uint64_t byte = 1000) {
  std::vector<std::byte> bytes(kBlockBytes);
  ASSERT_TRUE(ReadBlocking(device, block * kBlockBytes, bytes).has_value());
  bytes[byte] ^= std::byte{4};
  ASSERT_TRUE(WriteBlocking(device, block * kBlockBytes, bytes).has_value());
}

// The block that holds this content (one block of it).
inline std::uint64_t BlockWith(const SimDevice& device, const std::string& content) {
  std::uint64_t found = 0;
  device.CurrentImage().EachBlock([&](std::uint64_t block, std::span<const std::byte> bytes) {
    if (std::memcmp(bytes.data(), content.data(), bytes.size()) == 0) found = block;
  });
  EXPECT_NE(found, 0U);
  return found;
}

}  // namespace filer::engine
