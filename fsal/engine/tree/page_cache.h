// page_cache.h: nodes in memory, by block. Clean ones give way to others once there are
// `page_count_max`; dirty ones stay until a checkpoint has written them, and so do those that an
// operation holds (PageRef). Threads: Find and Touch under the owner's shared lock, all else under
// its exclusive one.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fsal/engine/tree/page.h"

namespace filer::engine {

class PageCache {
 public:
  explicit PageCache(std::size_t page_count_max) : page_count_max_(page_count_max) {}

  // The node that `pointer` means, or nullptr. A page of another life of its block does not count.
  Page* Find(const NodePointer& pointer) const;
  // Whatever node of that block is here.
  const Page* FindAny(std::uint64_t block) const;
  // A node read from the disk; makes room for it. Returns the page that is there now: one of the
  // same or of a later life stays.
  PageRef AddRead(PageRef page);
  // A node made now, makes no room (Trim does): replaces whatever was at its block.
  void AddNew(PageRef page);
  void Remove(std::uint64_t block);
  // Lets go of clean pages beyond the maximum. Pointers to pages do not outlive it.
  void Trim();

  std::size_t size() const noexcept { return clock_.size(); }
  std::size_t page_count_max() const noexcept { return page_count_max_; }

 private:
  void Add(PageRef page);
  void ShrinkTo(std::size_t page_count);

  const std::size_t page_count_max_;
  std::unordered_map<std::uint64_t, PageRef> pages_;
  std::vector<Page*> clock_;  // all of pages_
  std::size_t hand_ = 0;
};

}  // namespace filer::engine
