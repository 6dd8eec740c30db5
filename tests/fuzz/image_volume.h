// image_volume.h: a small volume that was killed with changes in its log, and its metadata as the
// fuzzer changes it: structure by structure, with the checksums and counts mended up to the roots,
// so that what follows a pointer sees a structure that verifies and is wrong.
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/format/label.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/format/node.h"
#include "fsal/engine/format/uberblock.h"
#include "tests/fuzz/fuzz_input.h"

namespace filer::fuzz {

// Where the metadata of a volume lies.
struct ImageMap {
  engine::VolumeLayout layout;
  engine::VolumeUuid uuid{};
  std::uint64_t uberblocks[engine::kUberblockRings] = {};  // blocks of the newest
  struct Node {
    engine::NodePointer pointer{};
    std::uint32_t level = 0;
  };
  std::vector<Node> nodes;        // of all trees, then the table of trees
  std::uint64_t table_block = 0;  // where that one lies
  struct Group {
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
  };
  std::vector<Group> groups;
};

struct PreparedVolume {
  engine::SimImage image;
  ImageMap map;
};

// Made once; the same bytes in every process.
const PreparedVolume& Prepared();

// Changes some structures of `image`, a copy of Prepared's.
void ChangeImage(FuzzInput& input, engine::SimImage& image);

// Mends the checksums of the trees below the newest uberblock, of their table, of that, and of the
// log, and with `with_counts` what table and uberblock say about the trees.
class ImageMender {
 public:
  ImageMender(engine::SimImage& image, ImageMap& map) : image_(image), map_(map) {}
  void MendTree(bool with_counts);
  void MendLog();

 private:
  void MendNode(engine::NodePointer& pointer, std::uint32_t level, int depth);
  void MendInner(std::span<std::byte> node, std::size_t offset, int depth, std::uint32_t level);
  void MendLeaf(std::span<std::byte> node, std::size_t offset, int depth);

  engine::SimImage& image_;
  ImageMap& map_;  // nodes and groups are found anew
  std::map<std::uint64_t, engine::NodePointer> mended_;
  std::uint64_t key_count_ = 0;
  std::uint64_t key_bytes_ = 0;
};

}  // namespace filer::fuzz
