#include "fsal/engine/tree/page_cache.h"

#include "base/assert.h"

namespace filer::engine {

Page* PageCache::Find(const NodePointer& pointer) const {
  const auto at = pages_.find(pointer.block);
  if (at == pages_.end()) return nullptr;
  auto* page = at->second.get();
  if (page->birth_epoch() != pointer.birth_epoch) return nullptr;
  // Written only when it changes: readers on other cores share the line.
  if (!page->is_recent.load(std::memory_order_relaxed)) {
    page->is_recent.store(true, std::memory_order_relaxed);
  }
  return page;
}

const Page* PageCache::FindAny(std::uint64_t block) const {
  const auto at = pages_.find(block);
  return at == pages_.end() ? nullptr : at->second.get();
}

void PageCache::Add(PageRef page) {
  page->clock_index = clock_.size();
  clock_.push_back(page.get());
  const auto block = page->block();
  pages_.emplace(block, std::move(page));
}

PageRef PageCache::AddRead(PageRef page) {
  const auto at = pages_.find(page->block());
  if (at != pages_.end()) {
    if (at->second->birth_epoch() >= page->birth_epoch()) return at->second;
    Remove(page->block());
  }
  ShrinkTo(page_count_max_ - 1);
  Add(page);
  return page;
}

void PageCache::AddNew(PageRef page) {
  Remove(page->block());
  Add(std::move(page));
}

void PageCache::Remove(std::uint64_t block) {
  const auto at = pages_.find(block);
  if (at == pages_.end()) return;
  const auto index = at->second->clock_index;
  clock_.back()->clock_index = index;
  clock_[index] = clock_.back();
  clock_.pop_back();
  pages_.erase(at);
}

void PageCache::Trim() {
  if (clock_.size() > page_count_max_) ShrinkTo(page_count_max_);
}

// Two rounds of the clock at most: the first takes the marks away. Where all are dirty or held,
// more stay than should.
void PageCache::ShrinkTo(std::size_t page_count) {
  auto steps = 2 * clock_.size();
  while (clock_.size() > page_count && steps-- > 0) {
    if (hand_ >= clock_.size()) hand_ = 0;
    auto* page = clock_[hand_];
    const bool is_kept =
        page->is_dirty || page->is_recent.exchange(false, std::memory_order_relaxed);
    // Its only reference is ours, and nobody takes another one without the lock.
    if (is_kept || pages_.find(page->block())->second.use_count() > 1) {
      ++hand_;
    } else {
      Remove(page->block());
    }
  }
}

}  // namespace filer::engine
