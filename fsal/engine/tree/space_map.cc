#include "fsal/engine/tree/space_map.h"

#include <algorithm>
#include <bit>
#include <deque>

#include "base/assert.h"
#include "fsal/engine/format/node.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kBitsPerWord = 64;
constexpr std::size_t kReadBytes = 1 << 20;

// The bits of one word that [bit, bit + count) covers; `count` is lowered by them.
std::uint64_t TakeMask(std::uint64_t bit, std::uint64_t& count) {
  const auto shift = bit % kBitsPerWord;
  const auto taken = std::min(count, kBitsPerWord - shift);
  count -= taken;
  const auto ones = taken == kBitsPerWord ? ~std::uint64_t{0} : (std::uint64_t{1} << taken) - 1;
  return ones << shift;
}

}  // namespace

bool DoOverlap(std::span<const BlockRun> used, std::span<const BlockRun> dropped) {
  if (used.size() + dropped.size() < 2) return false;
  std::vector<BlockRun> all(used.begin(), used.end());
  all.insert(all.end(), dropped.begin(), dropped.end());
  std::ranges::sort(all, {}, &BlockRun::first);
  const auto reaches = [](const BlockRun& left, const BlockRun& right) {
    return right.first - left.first < left.count;
  };
  return std::ranges::adjacent_find(all, reaches) != all.end();
}

SpaceMap::SpaceMap(const VolumeLayout& layout, const VolumeUuid& uuid)
    : layout_(layout),
      uuid_(uuid),
      unit_count_(layout.node_block_count / kNodeBlocks),
      data_bit_(SpaceBlocksFor(unit_count_) * kSpaceBits),
      words_((SpaceBlocksFor(unit_count_) + SpaceBlocksFor(layout.data_block_count)) * kSpaceWords),
      is_changed_(words_.size() / kSpaceWords),
      valid_(words_.size() / kSpaceWords) {
  FILER_ASSERT(2 * valid_.size() <= layout.map_block_count);
}

std::span<const std::uint64_t> SpaceMap::unit_words() const {
  return std::span(words_).first((unit_count_ + kBitsPerWord - 1) / kBitsPerWord);
}

std::span<const std::uint64_t> SpaceMap::data_words() const {
  return std::span(words_).subspan(data_bit_ / kBitsPerWord,
                                   (layout_.data_block_count + kBitsPerWord - 1) / kBitsPerWord);
}

bool SpaceMap::IsInside(BlockRun run) const {
  return run.count > 0 && run.first >= layout_.data_first_block &&
         run.first - layout_.data_first_block < layout_.data_block_count &&
         run.count <= layout_.data_block_count - (run.first - layout_.data_first_block);
}

bool SpaceMap::Has(std::uint64_t bit, std::uint64_t count, bool is_used) const {
  while (count > 0) {
    const auto word = words_[bit / kBitsPerWord];
    const auto mask = TakeMask(bit, count);
    if ((word & mask) != (is_used ? mask : 0)) return false;
    bit = (bit / kBitsPerWord + 1) * kBitsPerWord;
  }
  return true;
}

bool SpaceMap::Set(std::uint64_t bit, std::uint64_t count, bool is_used) {
  if (!Has(bit, count, !is_used)) return false;
  if (bit < data_bit_) used_units_ = is_used ? used_units_ + count : used_units_ - count;
  while (count > 0) {
    auto& word = words_[bit / kBitsPerWord];
    word ^= TakeMask(bit, count);
    MarkChanged(bit / kSpaceBits);
    bit = (bit / kBitsPerWord + 1) * kBitsPerWord;
  }
  return true;
}

bool SpaceMap::IsAll(BlockRun run, bool is_used) const {
  return IsInside(run) && Has(DataBit(run.first), run.count, is_used);
}

bool SpaceMap::Use(BlockRun run) {
  return IsInside(run) && Set(DataBit(run.first), run.count, true);
}

bool SpaceMap::Drop(BlockRun run) {
  return IsInside(run) && Set(DataBit(run.first), run.count, false);
}

void SpaceMap::MarkChanged(std::uint64_t index) {
  if (is_changed_[index]) return;
  is_changed_[index] = true;
  changed_.push_back(index);
}

void SpaceMap::Clear() {
  std::fill(words_.begin(), words_.end(), 0);
  used_units_ = 0;
  std::fill(valid_.begin(), valid_.end(), Valid{});
  sum_ = 0;
  for (std::uint64_t index = 0; index < valid_.size(); ++index) MarkChanged(index);
}

std::vector<SpaceMap::Part> SpaceMap::TakeChanged() {
  std::vector<Part> parts(changed_.size());
  std::sort(changed_.begin(), changed_.end());
  for (std::size_t at = 0; at < parts.size(); ++at) {
    parts[at].index = changed_[at];
    is_changed_[changed_[at]] = false;
    std::copy_n(words_.begin() + static_cast<std::ptrdiff_t>(changed_[at] * kSpaceWords),
                kSpaceWords, parts[at].words.begin());
  }
  changed_.clear();
  return parts;
}

Result<bool> SpaceMap::Load(BlockDevice& device, std::uint64_t epoch, std::uint64_t sum) {
  Clear();
  std::fill(is_changed_.begin(), is_changed_.end(), false);
  changed_.clear();
  constexpr auto kPairsPerRead = kReadBytes / (2 * kMetaBlockBytes);
  std::vector<std::byte> bytes(kReadBytes);
  for (std::uint64_t first = 0; first < valid_.size(); first += kPairsPerRead) {
    const auto count = std::min<std::uint64_t>(kPairsPerRead, valid_.size() - first);
    const auto part = std::span(bytes).first(count * 2 * kMetaBlockBytes);
    const auto offset = SpaceBlockPlace(layout_, first, 0) * kMetaBlockBytes;
    // What cannot be read is missing in the sum.
    if (!ReadBlocking(device, offset, part).has_value()) return false;
    for (std::uint64_t at = 0; at < 2 * count; ++at) {
      const auto index = first + at / 2;
      const auto block =
          LoadStruct<SpaceBlock>(part.subspan(at * kMetaBlockBytes, kMetaBlockBytes));
      if (!IsSpaceBlock(block, uuid_, index)) continue;
      if (block.epoch > epoch) {
        // Of a checkpoint that did not come to its end. Its number will be used again: the place
        // has to be written over by then.
        MarkChanged(index);
        continue;
      }
      auto& valid = valid_[index];
      const auto place = static_cast<std::uint32_t>(at % 2);
      if (valid.is_written && place == 1) {
        const auto other = LoadStruct<SpaceBlock>(part.subspan((at - 1) * kMetaBlockBytes));
        if (other.epoch > block.epoch) continue;
      }
      valid = {place, block.crc32c, true};
      std::copy(std::begin(block.words), std::end(block.words),
                words_.begin() + static_cast<std::ptrdiff_t>(index * kSpaceWords));
    }
  }
  for (std::uint64_t index = 0; index < valid_.size(); ++index) {
    if (valid_[index].is_written) sum_ += SpaceBlockSum(index, valid_[index].crc32c);
  }
  for (const auto word : unit_words()) {
    used_units_ += static_cast<std::uint64_t>(std::popcount(word));
  }
  // Bits behind the ends mean nothing: who has set them is not to be believed.
  const auto is_clear = [&](std::uint64_t from, std::uint64_t to) {
    return Has(from, to - from, false);
  };
  return sum_ == sum && is_clear(unit_count_, data_bit_) &&
         is_clear(data_bit_ + layout_.data_block_count, words_.size() * kBitsPerWord);
}

Result<SpaceMap::Written> SpaceMap::Write(BlockDevice& device, std::span<const Part> parts,
                                          std::uint64_t epoch, const BufferRef& buffer) const {
  Written written;
  written.sum = sum_;
  const auto batch_max = buffer.bytes().size() / kMetaBlockBytes;
  SpaceBlock block{};
  block.magic = kSpaceBlockMagic;
  block.version = kFormatVersion;
  std::copy(uuid_.begin(), uuid_.end(), block.volume_uuid);
  block.epoch = epoch;
  for (std::size_t first = 0; first < parts.size(); first += batch_max) {
    const auto batch = parts.subspan(first, std::min(batch_max, parts.size() - first));
    std::deque<BlockRequest> requests;  // they do not move
    std::vector<iovec> segments(batch.size());
    Result<void> outcome = Ok();
    for (std::size_t at = 0; at < batch.size() && outcome.has_value(); ++at) {
      const auto index = batch[at].index;
      const auto& valid = valid_[index];
      block.index = index;
      std::copy(batch[at].words.begin(), batch[at].words.end(), std::begin(block.words));
      Seal(block);
      if (valid.is_written) written.sum -= SpaceBlockSum(index, valid.crc32c);
      written.sum += SpaceBlockSum(index, block.crc32c);
      written.indexes.push_back(index);
      written.checksums.push_back(block.crc32c);
      const auto place = buffer.bytes().subspan(at * kMetaBlockBytes, kMetaBlockBytes);
      StoreStruct(place, block);
      segments[at] = {place.data(), place.size()};
      auto& request = requests.emplace_back();
      request.operation = BlockOperation::kWrite;
      request.offset_bytes =
          SpaceBlockPlace(layout_, index, valid.is_written ? 1 - valid.place : 0) * kMetaBlockBytes;
      request.length_bytes = kMetaBlockBytes;
      request.segments = std::span(&segments[at], 1);
      outcome = device.SubmitWhenRoom(request);
      if (!outcome.has_value()) requests.pop_back();
    }
    for (auto& request : requests) {
      const auto done = device.Await(request);
      if (outcome.has_value()) outcome = done;
    }
    FILER_TRY(std::move(outcome));
  }
  return written;
}

void SpaceMap::Accept(const Written& written) {
  for (std::size_t at = 0; at < written.indexes.size(); ++at) {
    auto& valid = valid_[written.indexes[at]];
    valid = {valid.is_written ? 1 - valid.place : 0, written.checksums[at], true};
  }
  sum_ = written.sum;
}

}  // namespace filer::engine
