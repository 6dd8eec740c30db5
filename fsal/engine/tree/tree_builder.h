// tree_builder.h: a tree made from its first key to its last: leaves that exist already stay where
// they are, what lies between them goes into new ones. All new nodes are in memory until they are
// written. One thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fsal/engine/tree/node_space.h"
#include "fsal/engine/tree/node_tree.h"
#include "fsal/engine/tree/page.h"

namespace filer::engine {

class TreeBuilder {
 public:
  // New nodes get places of `space` and this epoch.
  TreeBuilder(const VolumeUuid& uuid, std::uint64_t epoch, NodeSpace& space)
      : uuid_(uuid), epoch_(epoch), space_(space) {}

  // Keys only grow from call to call. Errors: kNoSpace.
  Result<void> Keep(const NodePointer& leaf, std::string_view first_key, std::uint64_t key_count,
                    std::uint64_t key_bytes);
  Result<void> Add(std::string_view key, std::string_view value);
  // A cell of an old leaf; the pieces of its value stay where they are.
  Result<void> AddCell(std::string_view key, std::size_t value_bytes, std::string_view cell);
  // The nodes above. `pages()` are to be written then.
  Result<NodePointer> Finish();

  std::uint32_t level() const { return level_; }
  std::uint64_t key_count() const { return key_count_; }
  std::uint64_t key_bytes() const { return key_bytes_; }  // of keys and values
  const std::vector<PageRef>& pages() const { return pages_; }

 private:
  struct Child {
    std::string low;
    NodePointer pointer;
  };
  Result<Page*> NewPage(std::uint32_t level);
  NodePointer PointerTo(const Page& page) const;

  const VolumeUuid uuid_;
  const std::uint64_t epoch_;
  NodeSpace& space_;
  std::vector<PageRef> pages_;
  std::vector<Child> children_;
  Page* open_ = nullptr;  // the leaf that is being filled
  std::uint32_t level_ = 0;
  std::uint64_t key_count_ = 0;
  std::uint64_t key_bytes_ = 0;
};

}  // namespace filer::engine
