#include "fsal/engine/tree/node_space.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "fsal/engine/format/node.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kBitsPerWord = 64;
constexpr std::uint64_t kCheckpointsToWait = 1;  // behind the one that no longer refers to a unit

}  // namespace

NodeSpace::NodeSpace(std::uint64_t first_block, std::uint64_t unit_count, SpaceMap* map)
    : first_block_(first_block),
      unit_count_(unit_count),
      words_((unit_count + kBitsPerWord - 1) / kBitsPerWord),
      free_count_(unit_count),
      map_(map) {
  const auto rest = unit_count % kBitsPerWord;
  if (rest != 0) words_.back() = ~std::uint64_t{0} << rest;  // bits behind the end are in use
}

void NodeSpace::StartFromMap() {
  const auto used = map_->unit_words();
  std::copy(used.begin(), used.end(), words_.begin());
  const auto rest = unit_count_ % kBitsPerWord;
  if (rest != 0) words_.back() |= ~std::uint64_t{0} << rest;
  free_count_ = unit_count_ - map_->used_units();
}

bool NodeSpace::Contains(std::uint64_t block) const noexcept {
  return block >= first_block_ && (block - first_block_) % kNodeBlocks == 0 &&
         (block - first_block_) / kNodeBlocks < unit_count_;
}

std::uint64_t NodeSpace::UnitOf(std::uint64_t block) const {
  FILER_ASSERT(Contains(block));
  return (block - first_block_) / kNodeBlocks;
}

std::optional<std::uint64_t> NodeSpace::FindFree(std::uint64_t from_word,
                                                 std::uint64_t to_word) const {
  for (auto at = from_word; at < to_word; ++at) {
    if (words_[at] != ~std::uint64_t{0}) {
      return at * kBitsPerWord + static_cast<std::uint64_t>(std::countr_one(words_[at]));
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> NodeSpace::Allocate() {
  if (free_count_ == 0) return std::nullopt;
  auto unit = FindFree(cursor_word_, words_.size());
  if (!unit) unit = FindFree(0, cursor_word_);
  FILER_ASSERT(unit);
  cursor_word_ = *unit / kBitsPerWord;
  words_[cursor_word_] |= std::uint64_t{1} << *unit % kBitsPerWord;
  --free_count_;
  if (map_ != nullptr && !map_->UseUnit(*unit)) is_confused_ = true;
  return first_block_ + *unit * kNodeBlocks;
}

bool NodeSpace::IsUsed(std::uint64_t block) const {
  if (!Contains(block)) return false;
  const auto unit = UnitOf(block);
  if (map_ != nullptr) return map_->IsUnitUsed(unit);
  return (words_[unit / kBitsPerWord] >> unit % kBitsPerWord & 1) != 0;
}

bool NodeSpace::MarkUsed(std::uint64_t block) {
  const auto unit = UnitOf(block);
  const auto bit = std::uint64_t{1} << unit % kBitsPerWord;
  auto& word = words_[unit / kBitsPerWord];
  if ((word & bit) != 0) return false;
  word |= bit;
  --free_count_;
  if (map_ != nullptr) map_->UseUnit(unit);
  return true;
}

void NodeSpace::FreeNow(std::uint64_t block) {
  const auto unit = UnitOf(block);
  if (map_ != nullptr && !map_->DropUnit(unit)) is_confused_ = true;
  ClearBit(unit);
}

void NodeSpace::ClearBit(std::uint64_t unit) {
  const auto bit = std::uint64_t{1} << unit % kBitsPerWord;
  auto& word = words_[unit / kBitsPerWord];
  FILER_ASSERT((word & bit) != 0);
  word &= ~bit;
  ++free_count_;
}

void NodeSpace::FreeLater(std::uint64_t block, std::uint64_t epoch) {
  if (map_ != nullptr && !map_->DropUnit(UnitOf(block))) {
    is_confused_ = true;  // a second parent gave it up already
    return;
  }
  if (freed_.empty() || freed_.back().epoch != epoch) freed_.push_back({epoch, {}});
  freed_.back().units.push_back(UnitOf(block));
  ++pending_count_;
}

void NodeSpace::Release(std::uint64_t epoch) {
  while (!freed_.empty() && freed_.front().epoch + kCheckpointsToWait <= epoch) {
    for (const auto unit : freed_.front().units) ClearBit(unit);
    pending_count_ -= freed_.front().units.size();
    freed_.pop_front();
  }
}

}  // namespace filer::engine
