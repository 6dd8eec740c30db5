#include "fsal/engine/device/buffer_pool.h"

#include <array>
#include <atomic>
#include <bit>
#include <vector>

#include "base/assert.h"
#include "base/thread_annotations.h"

namespace filer::engine {

namespace {
constexpr std::uint32_t kOrderCount =
    std::countr_zero(kBufferBytesMax) - std::countr_zero(kBufferBytesMin) + 1;
constexpr std::uint32_t kNone = UINT32_MAX;  // no page
constexpr std::uint8_t kNotFree = UINT8_MAX;

constexpr std::uint32_t PagesOf(std::uint32_t order) { return 1U << order; }

std::uint32_t OrderFor(std::uint32_t bytes) {
  const std::uint32_t rounded = std::bit_ceil(std::max(bytes, kBufferBytesMin));
  return static_cast<std::uint32_t>(std::countr_zero(rounded) - std::countr_zero(kBufferBytesMin));
}
}  // namespace

// A binary buddy allocator. Its bookkeeping lies outside the arena: the other end of the bridge can
// write there. Invariants: a page heads at most one free list entry; two free buddies of one order
// never coexist.
struct BufferPool::State {
  struct Page {
    std::uint32_t next = kNone;
    std::uint32_t previous = kNone;
    std::uint8_t free_order = kNotFree;  // valid for the head of a free run
    std::uint8_t used_order = 0;         // valid for the head of an allocated run
  };

  std::span<std::byte> arena;
  std::unique_ptr<std::atomic<std::uint32_t>[]> references;  // by head page
  std::atomic<std::uint64_t> free_bytes{0};                  // a statistic: relaxed
  Mutex mutex;
  std::array<std::uint32_t, kOrderCount> heads FILER_GUARDED_BY(mutex);
  std::vector<Page> pages FILER_GUARDED_BY(mutex);

  void Push(std::uint32_t index, std::uint32_t order) FILER_REQUIRES(mutex) {
    Page& page = pages[index];
    page.free_order = static_cast<std::uint8_t>(order);
    page.previous = kNone;
    page.next = heads[order];
    if (page.next != kNone) pages[page.next].previous = index;
    heads[order] = index;
  }

  void Remove(std::uint32_t index) FILER_REQUIRES(mutex) {
    Page& page = pages[index];
    if (page.previous != kNone) {
      pages[page.previous].next = page.next;
    } else {
      heads[page.free_order] = page.next;
    }
    if (page.next != kNone) pages[page.next].previous = page.previous;
    page.free_order = kNotFree;
  }

  // First page of a run of that order, or kNone.
  std::uint32_t Take(std::uint32_t order) FILER_REQUIRES(mutex) {
    std::uint32_t found = order;
    while (found < kOrderCount && heads[found] == kNone) ++found;
    if (found == kOrderCount) return kNone;
    const std::uint32_t index = heads[found];
    Remove(index);
    while (found > order) {
      --found;
      Push(index + PagesOf(found), found);
    }
    pages[index].used_order = static_cast<std::uint8_t>(order);
    return index;
  }

  void Give(std::uint32_t index) FILER_REQUIRES(mutex) {
    std::uint32_t order = pages[index].used_order;
    while (order + 1 < kOrderCount) {
      const std::uint32_t buddy = index ^ PagesOf(order);
      if (pages[buddy].free_order != order) break;
      Remove(buddy);
      index &= ~PagesOf(order);
      ++order;
    }
    Push(index, order);
  }
};

BufferPool::BufferPool(std::span<std::byte> arena) : state_(std::make_unique<State>()) {
  FILER_ASSERT(reinterpret_cast<std::uintptr_t>(arena.data()) % kBufferBytesMin == 0);
  FILER_ASSERT(arena.size() % kBufferBytesMax == 0);
  const std::size_t page_count = arena.size() / kBufferBytesMin;
  FILER_ASSERT(page_count < kNone);
  state_->arena = arena;
  state_->references = std::make_unique<std::atomic<std::uint32_t>[]>(page_count);
  state_->free_bytes.store(arena.size(), std::memory_order_relaxed);
  MutexLock lock(state_->mutex);
  state_->heads.fill(kNone);
  state_->pages.resize(page_count);
  // Last first, so that the lowest addresses are given out first.
  const std::uint32_t run = PagesOf(kOrderCount - 1);
  for (std::size_t first = page_count; first >= run; first -= run) {
    state_->Push(static_cast<std::uint32_t>(first - run), kOrderCount - 1);
  }
}

BufferPool::~BufferPool() { FILER_ASSERT(free_bytes() == size_bytes()); }

Result<BufferRef> BufferPool::Allocate(std::uint32_t bytes) {
  if (bytes == 0 || bytes > kBufferBytesMax) return Errc::kInvalidArgument;
  const std::uint32_t order = OrderFor(bytes);
  const std::uint32_t size = kBufferBytesMin << order;
  std::uint32_t index;
  {
    MutexLock lock(state_->mutex);
    index = state_->Take(order);
  }
  if (index == kNone) return Errc::kNoMemory;
  state_->free_bytes.fetch_sub(size, std::memory_order_relaxed);
  state_->references[index].store(1, std::memory_order_relaxed);  // nobody else knows it yet
  return BufferRef(this, index, size);
}

std::uint64_t BufferPool::size_bytes() const noexcept { return state_->arena.size(); }

std::uint64_t BufferPool::free_bytes() const noexcept {
  return state_->free_bytes.load(std::memory_order_relaxed);
}

bool BufferPool::Contains(const void* address) const noexcept {
  const auto* byte = static_cast<const std::byte*>(address);
  return byte >= state_->arena.data() && byte < state_->arena.data() + state_->arena.size();
}

void BufferPool::AddReference(std::uint32_t index) noexcept {
  // The caller holds a reference already: no order needed.
  const std::uint32_t before = state_->references[index].fetch_add(1, std::memory_order_relaxed);
  FILER_ASSERT(before != 0);
}

void BufferPool::DropReference(std::uint32_t index) noexcept {
  // Release: what this holder did with the bytes. Acquire: the last one sees it all before reuse.
  const std::uint32_t before = state_->references[index].fetch_sub(1, std::memory_order_acq_rel);
  FILER_ASSERT(before != 0);
  if (before != 1) return;
  MutexLock lock(state_->mutex);
  const std::uint64_t bytes = std::uint64_t{kBufferBytesMin} << state_->pages[index].used_order;
  state_->Give(index);
  state_->free_bytes.fetch_add(bytes, std::memory_order_relaxed);
}

std::byte* BufferPool::AddressOf(std::uint32_t index) const noexcept {
  return state_->arena.data() + std::size_t{index} * kBufferBytesMin;
}

BufferRef::BufferRef(const BufferRef& other) noexcept
    : pool_(other.pool_), index_(other.index_), size_(other.size_) {
  if (pool_ != nullptr) pool_->AddReference(index_);
}

BufferRef::~BufferRef() {
  if (pool_ != nullptr) pool_->DropReference(index_);
}

std::byte* BufferRef::data() const noexcept {
  return pool_ == nullptr ? nullptr : pool_->AddressOf(index_);
}

}  // namespace filer::engine
