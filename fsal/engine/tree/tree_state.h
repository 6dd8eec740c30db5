// tree_state.h: a tree of an open store.
#pragma once

#include <atomic>
#include <memory>

#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/tree/node_tree.h"

namespace filer::engine {

struct TreeState {
  TreeState(TreeRecord of, const VolumeUuid& uuid, PageCache& cache, NodeSpace& space,
            OpenNodes& open, std::uint64_t tree_epoch)
      : id(of.id), record(std::move(of)), tree(uuid, cache, space, open) {
    file_count = record.file_count;
    tree.Start({record.root, record.level, tree_epoch, 0, record.key_count, record.key_bytes},
               record.shared_epoch);
    shared_epoch = record.shared_epoch;
  }

  void SetSharedEpoch(std::uint64_t epoch) {
    record.shared_epoch = epoch;
    tree.SetSharedEpoch(epoch);
    shared_epoch = epoch;
  }
  bool IsWritable() const { return record.kind == TreeKind::kLive || id == kListTree; }
  // What changes with every commit, for the table.
  TreeRecord RecordNow() const {
    auto now = record;
    const auto root = tree.Root();
    now.root = root.pointer;
    now.level = root.level;
    now.key_count = root.key_count;
    now.key_bytes = root.key_bytes;
    now.file_count = file_count;
    return now;
  }

  const TreeId id;
  TreeRecord record;                           // the store's lock
  NodeTree tree;                               // as record
  std::uint64_t file_count = 0;                // as record
  std::atomic<std::uint64_t> shared_epoch{0};  // as the tree's, for who does not hold the lock
  bool is_gone = false;                        // deleted or rolled back; as record
};
using TreePtr = std::shared_ptr<TreeState>;

}  // namespace filer::engine
