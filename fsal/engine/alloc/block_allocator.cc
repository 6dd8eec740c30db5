#include "fsal/engine/alloc/block_allocator.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace filer::engine {
namespace {
constexpr std::uint64_t kSearchBlocksMax =
    256 * 1024;  // how far to look for a run of the whole length
}

BlockAllocator::BlockAllocator(std::uint64_t first_block, std::uint64_t block_count)
    : first_(first_block),
      count_(block_count),
      held_back_(std::min(block_count / 100 + 16, block_count / 4)),
      words_((block_count + 63) / 64, 0),
      free_(block_count) {
  if (count_ % 64 != 0) words_.back() = ~0ULL << (count_ % 64);  // past the end: never free
}

void BlockAllocator::Start(std::span<const std::uint64_t> used_words) {
  const std::lock_guard lock(mutex_);
  FILER_ASSERT(used_words.size() == words_.size());
  free_ = count_;
  for (std::size_t at = 0; at < words_.size(); ++at) {
    words_[at] |= used_words[at];
    free_ -= static_cast<std::uint64_t>(std::popcount(used_words[at]));
  }
}

Result<void> BlockAllocator::Reserve(std::uint64_t count, bool is_privileged) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t kept = reserved_ + (is_privileged ? 0 : held_back_);
  if (free_ < kept || free_ - kept < count) return Errc::kNoSpace;
  reserved_ += count;
  return Ok();
}

void BlockAllocator::ReserveAgain(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  reserved_ += count;
}

void BlockAllocator::Unreserve(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  FILER_ASSERT(reserved_ >= count);
  reserved_ -= count;
}

BlockRun BlockAllocator::AllocateReserved(std::uint64_t count_max) {
  const std::lock_guard lock(mutex_);
  FILER_ASSERT(count_max > 0 && reserved_ >= count_max && free_ > 0);
  // Next fit: a run of the whole length not too far ahead, else the longest that was met.
  BlockRun best;
  std::uint64_t at = cursor_;
  std::uint64_t looked_at = 0;
  while (looked_at < count_) {
    const BlockRun run = NextFreeRun(at, count_, count_max);
    if (run.count > best.count) best = run;
    if (best.count == count_max) break;
    const std::uint64_t next = run.count == 0 ? count_ : run.first + run.count;
    looked_at += next - at;
    at = next == count_ ? 0 : next;
    if (looked_at >= kSearchBlocksMax && best.count > 0) break;
  }
  FILER_ASSERT(best.count > 0);
  SetRange(best.first, best.count, true);
  free_ -= best.count;
  reserved_ -= best.count;
  cursor_ = best.first + best.count == count_ ? 0 : best.first + best.count;
  return {first_ + best.first, best.count};
}

void BlockAllocator::FreeNow(BlockRun run) {
  const std::lock_guard lock(mutex_);
  SetRange(run.first - first_, run.count, false);
  free_ += run.count;
}

void BlockAllocator::FreeAfter(std::uint64_t lsn, BlockRun run) {
  if (run.count == 0) return;
  const std::lock_guard lock(mutex_);
  FILER_ASSERT(run.first >= first_ && run.first - first_ + run.count <= count_);
  pending_.push_back({lsn, run});
  pending_count_ += run.count;
}

void BlockAllocator::ReleaseDurable(std::uint64_t durable_lsn) {
  const std::lock_guard lock(mutex_);
  // Several threads append, so the queue is only nearly in order; a late one waits for the next
  // call.
  while (!pending_.empty() && pending_.front().lsn <= durable_lsn) {
    const BlockRun run = pending_.front().run;
    pending_.pop_front();
    SetRange(run.first - first_, run.count, false);
    free_ += run.count;
    pending_count_ -= run.count;
  }
}

bool BlockAllocator::HasPending() const {
  const std::lock_guard lock(mutex_);
  return !pending_.empty();
}

std::uint64_t BlockAllocator::free() const {
  const std::lock_guard lock(mutex_);
  return free_;
}
std::uint64_t BlockAllocator::pending() const {
  const std::lock_guard lock(mutex_);
  return pending_count_;
}
std::uint64_t BlockAllocator::reserved() const {
  const std::lock_guard lock(mutex_);
  return reserved_;
}
std::uint64_t BlockAllocator::available() const {
  const std::lock_guard lock(mutex_);
  const std::uint64_t kept = reserved_ + held_back_;
  return free_ > kept ? free_ - kept : 0;
}
bool BlockAllocator::IsUsedForTest(std::uint64_t block) const {
  const std::lock_guard lock(mutex_);
  return TestBit(block - first_);
}

void BlockAllocator::SetRange(std::uint64_t index, std::uint64_t count, bool is_used) {
  std::uint64_t left = count;
  while (left > 0) {
    const std::uint64_t bit = index % 64;
    const std::uint64_t span = std::min<std::uint64_t>(left, 64 - bit);
    const std::uint64_t mask = (span == 64 ? ~0ULL : (1ULL << span) - 1) << bit;
    std::uint64_t& word = words_[index / 64];
    FILER_ASSERT((word & mask) == (is_used ? 0 : mask));  // never used twice, never freed twice
    word = is_used ? word | mask : word & ~mask;
    index += span;
    left -= span;
  }
}

BlockRun BlockAllocator::NextFreeRun(std::uint64_t from, std::uint64_t to,
                                     std::uint64_t count_max) const {
  std::uint64_t at = from;
  while (at < to) {  // the first free bit
    const std::uint64_t free_bits = ~words_[at / 64] >> (at % 64);
    if (free_bits != 0) {
      at += static_cast<std::uint64_t>(std::countr_zero(free_bits));
      break;
    }
    at = (at / 64 + 1) * 64;
  }
  if (at >= to) return {};
  std::uint64_t end = at;
  const std::uint64_t limit = std::min(to, at + count_max);
  while (end < limit) {
    const std::uint64_t used_bits = words_[end / 64] >> (end % 64);
    if (used_bits != 0) {
      end = std::min(limit, end + static_cast<std::uint64_t>(std::countr_zero(used_bits)));
      break;
    }
    end = std::min(limit, (end / 64 + 1) * 64);
  }
  return {at, end - at};
}

}  // namespace filer::engine
