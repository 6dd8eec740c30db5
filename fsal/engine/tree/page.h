// page.h: a node in memory, in the form it has on the disk, and the edits of one node. What takes
// more than one node is node_tree.h's. Threads: edits need the owner's exclusive lock; reading
// needs its shared one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fsal/engine/format/node.h"

namespace filer::engine {

class Page {
 public:
  // An empty node.
  Page(const VolumeUuid& uuid, std::uint32_t level, std::uint64_t block, std::uint64_t birth_epoch);
  // A copy of `other` at another place.
  Page(const Page& other, std::uint64_t block, std::uint64_t birth_epoch);
  // Empty, to be read into bytes(); Adopt follows once they are checked.
  Page() noexcept {}
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  void Adopt() noexcept;

  std::span<std::byte> bytes() noexcept { return bytes_; }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  NodeView view() const noexcept { return NodeView(bytes_.data()); }
  std::uint64_t block() const noexcept { return view().header().own_block; }
  std::uint64_t birth_epoch() const noexcept { return view().header().birth_epoch; }
  std::uint32_t level() const noexcept { return view().level(); }
  // Bytes of slots and cells.
  std::size_t used_bytes() const noexcept { return used_bytes_; }

  // False: it does not fit (also not after tidying up); nothing is changed then.
  bool Insert(std::size_t at, std::string_view cell);
  void Remove(std::size_t at);
  // Moves the cells from `at` on behind the last of `to`, which has room.
  void MoveTail(std::size_t at, Page& to);
  void SetChild(std::size_t at, const NodePointer& pointer);  // inner nodes
  void SetPiece(std::string_view bytes);                      // pieces
  // How many cells to leave here when it is split: half of the bytes.
  std::size_t SplitPoint() const noexcept;

  // Of the cache and the tree, under their lock; but anybody who reads the page may set is_recent.
  std::atomic<bool> is_recent{true};  // relaxed: a hint
  bool is_dirty = false;              // not on the disk yet
  std::uint64_t visit = 0;            // of a count of distinct pages
  std::size_t clock_index = 0;        // in the cache
  std::size_t dirty_index = 0;        // in the tree's list, while it is dirty and of the open epoch

 private:
  NodeHeader& header() noexcept { return *reinterpret_cast<NodeHeader*>(bytes_.data()); }
  void Tidy();

  std::array<std::byte, kNodeBytes> bytes_;
  std::size_t used_bytes_ = 0;
};

using PageRef = std::shared_ptr<Page>;

std::string LeafCellOf(std::string_view key, std::uint32_t value_bytes, std::string_view stored);
std::string InnerCellOf(std::string_view key, const NodePointer& child);

}  // namespace filer::engine
