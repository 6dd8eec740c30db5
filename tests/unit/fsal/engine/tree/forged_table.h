// forged_table.h: the table of trees in an image of a small volume, read and written anew by
// whoever forges what lies below it.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/format/uberblock.h"

namespace filer::engine {

// Errors: kCorrupt, also when it is not one piece inside of the region of nodes.
inline Result<TreeTable> LoadTable(const SimImage& image, const VolumeLayout& layout,
                                   const Uberblock& root) {
  const std::uint64_t block = root.table[0].block;
  if (root.table_piece_count != 1 || block < layout.node_first_block ||
      block - layout.node_first_block > layout.node_block_count - kNodeBlocks) {
    return Errc::kCorrupt;
  }
  std::vector<std::byte> node(kNodeBytes);
  image.Read(block * kMetaBlockBytes, node);
  const std::size_t length = LoadStruct<NodeHeader>(node).count;
  if (length > kPieceBytesMax) return Errc::kCorrupt;
  const std::string bytes(reinterpret_cast<const char*>(node.data()) + sizeof(NodeHeader), length);
  return DecodeTreeTable(bytes, layout, root.tree_epoch);
}

// In the place of the one that was loaded, of as many records. The uberblock is the caller's to
// seal.
inline void StoreTable(SimImage& image, const TreeTable& table, Uberblock& root) {
  std::vector<std::byte> node(kNodeBytes);
  image.Read(root.table[0].block * kMetaBlockBytes, node);
  const std::string bytes = EncodeTreeTable(table);
  std::memcpy(node.data() + sizeof(NodeHeader), bytes.data(), bytes.size());
  root.table[0].crc32c = SealNode(node);
  image.Write(root.table[0].block * kMetaBlockBytes, node);
}

}  // namespace filer::engine
