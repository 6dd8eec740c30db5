#include "fsal/engine/tree/node_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/assert.h"

namespace filer::engine {
namespace {

constexpr std::size_t kReadsAtOnce = 16;

// Nodes that lie one behind another, in one write; while one run is filled, the other is written.
class RunWriter {
 public:
  RunWriter(BlockDevice& device, const RunBuffers& buffers) : device_(device) {
    for (std::size_t at = 0; at < slots_.size(); ++at) slots_[at].buffer = buffers[at];
  }
  ~RunWriter() {
    for (auto& slot : slots_) Await(slot);
  }

  // Where the node for `block` is to be put.
  Result<std::span<std::byte>> Place(std::uint64_t block) {
    if (used_ > 0 && (block != first_block_ + used_ / kMetaBlockBytes ||
                      used_ + kNodeBytes > kNodeRunBytesMax)) {
      FILER_TRY(WriteRun());
    }
    if (used_ == 0) first_block_ = block;
    const auto place = slots_[current_].buffer.bytes().subspan(used_, kNodeBytes);
    used_ += kNodeBytes;
    return place;
  }

  Result<void> Finish() {
    if (used_ > 0) FILER_TRY(WriteRun());
    for (auto& slot : slots_) {
      Await(slot);
      FILER_TRY(Outcome(slot));
    }
    return Ok();
  }

 private:
  struct Slot {
    BufferRef buffer;
    BlockRequest request;
    iovec segment{};
    bool is_started = false;
  };

  void Await(Slot& slot) {
    if (!slot.is_started) return;
    static_cast<void>(device_.Await(slot.request));  // Outcome tells
    slot.is_started = false;
  }

  static Result<void> Outcome(const Slot& slot) {
    if (slot.request.is_done.load(std::memory_order_relaxed) && !slot.request.is_ok) {
      return Error(slot.request.status);
    }
    return Ok();
  }

  Result<void> WriteRun() {
    auto& slot = slots_[current_];
    slot.segment = {slot.buffer.data(), used_};
    slot.request.operation = BlockOperation::kWrite;
    slot.request.offset_bytes = first_block_ * kMetaBlockBytes;
    slot.request.length_bytes = used_;
    slot.request.segments = std::span(&slot.segment, 1);
    FILER_TRY(device_.SubmitWhenRoom(slot.request));
    slot.is_started = true;
    used_ = 0;
    current_ = (current_ + 1) % slots_.size();
    Await(slots_[current_]);  // the one to fill next
    return Outcome(slots_[current_]);
  }

  BlockDevice& device_;
  std::array<Slot, 2> slots_;
  std::size_t current_ = 0;
  std::size_t used_ = 0;  // of the current run
  std::uint64_t first_block_ = 0;
};

Error Damaged(const NodePointer& pointer, std::string_view what) {
  return Error(Errc::kCorrupt,
               fmt::format("metadata node in block {}: {}; restore the volume from a backup",
                           pointer.block.value(), what));
}

// One read of a node. It does not move while it is under way.
struct NodeRead {
  BufferRef buffer;
  iovec segment{};
  BlockRequest request;
  bool is_started = false;

  Result<void> Start(BlockDevice& device, const Miss& miss, BufferRef into) {
    buffer = std::move(into);
    segment = {buffer.data(), kNodeBytes};
    request.operation = BlockOperation::kRead;
    request.offset_bytes = miss.pointer.block * kMetaBlockBytes;
    request.length_bytes = kNodeBytes;
    request.segments = std::span(&segment, 1);
    FILER_TRY(device.SubmitWhenRoom(request));
    is_started = true;
    return Ok();
  }
};

}  // namespace

Result<void> NodeReader::Start() {
  MutexLock lock(spare_mutex_);
  spare_ = FILER_TRY(device_.Pool().Allocate(kNodeBytes));
  return Ok();
}

bool NodeReader::CanPointTo(const NodePointer& child, const Page& page) const {
  return child.block >= layout_.node_first_block &&
         child.block - layout_.node_first_block <= layout_.node_block_count - kNodeBlocks &&
         (child.block - layout_.node_first_block) % kNodeBlocks == 0 &&
         child.birth_epoch <= page.birth_epoch();
}

Result<void> NodeReader::CheckPlace(const Page& page, const Miss& miss) const {
  if (miss.level == kPieceLevel) return Ok();
  const auto view = page.view();
  for (std::size_t at = view.is_leaf() ? 0 : 1; at < view.count(); ++at) {
    if (view.key(at) < miss.low || (!miss.high.empty() && view.key(at) >= miss.high)) {
      return Damaged(miss.pointer, "a key is outside of the range that its parent gives it");
    }
  }
  for (std::size_t at = 0; at < view.count(); ++at) {
    bool is_possible = true;
    if (!view.is_leaf()) {
      is_possible = CanPointTo(view.child(at), page);
    } else {
      const auto cell = view.leaf(at);
      for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
        is_possible = is_possible && CanPointTo(PieceAt(cell, piece), page);
      }
    }
    if (!is_possible) return Damaged(miss.pointer, "it points to where no node of it can be");
  }
  return Ok();
}

Result<void> NodeReader::CheckBlock(const Miss& miss) const {
  const std::uint64_t block = miss.pointer.block;
  if (block < layout_.node_first_block ||
      block - layout_.node_first_block > layout_.node_block_count - kNodeBlocks) {
    return Error(Errc::kCorrupt,
                 fmt::format("metadata: a pointer leads to block {}, outside of the node region; "
                             "restore the volume from a backup",
                             block));
  }
  return Ok();
}

Result<PageRef> NodeReader::Decode(const Miss& miss, std::span<const std::byte> bytes) const {
  auto page = std::make_shared<Page>();
  std::memcpy(page->bytes().data(), bytes.data(), kNodeBytes);
  FILER_TRY(CheckNode(page->bytes(), uuid_, miss.pointer, miss.level));
  page->Adopt();
  FILER_TRY(CheckPlace(*page, miss));
  return page;
}

Result<PageRef> NodeReader::Read(const Miss& miss) {
  return std::move(ReadAll({&miss, 1}).front());
}

std::vector<Result<PageRef>> NodeReader::ReadAll(std::span<const Miss> misses) {
  struct Slot {
    NodeRead read;
    Result<void> outcome = Ok();
  };
  std::vector<Result<PageRef>> pages;
  pages.reserve(misses.size());
  for (std::size_t first = 0; first < misses.size(); first += kReadsAtOnce) {
    const auto batch = misses.subspan(first, std::min(kReadsAtOnce, misses.size() - first));
    std::array<Slot, kReadsAtOnce> slots;
    for (std::size_t at = 0; at < batch.size(); ++at) {
      auto& slot = slots[at];
      slot.outcome = CheckBlock(batch[at]);
      auto buffer = device_.Pool().Allocate(kNodeBytes);
      if (slot.outcome.has_value() && buffer.has_value()) {
        slot.outcome = slot.read.Start(device_, batch[at], std::move(buffer).value());
      }
    }
    for (std::size_t at = 0; at < batch.size(); ++at) {
      auto& slot = slots[at];
      if (slot.read.is_started) slot.outcome = device_.Await(slot.read.request);
      if (!slot.outcome.has_value()) {
        pages.push_back(slot.outcome.error());
      } else if (slot.read.is_started) {
        pages.push_back(Decode(batch[at], slot.read.buffer.bytes()));
      } else {
        pages.push_back(ReadThroughSpare(batch[at]));
      }
    }
  }
  return pages;
}

// The pool is empty: in turns, through the one buffer that is ours.
Result<PageRef> NodeReader::ReadThroughSpare(const Miss& miss) {
  MutexLock lock(spare_mutex_);
  NodeRead read;
  FILER_TRY(read.Start(device_, miss, spare_));
  FILER_TRY(device_.Await(read.request));
  return Decode(miss, spare_.bytes());
}

Result<RunBuffers> AllocateRunBuffers(BlockDevice& device) {
  RunBuffers buffers;
  for (auto& buffer : buffers) buffer = FILER_TRY(device.Pool().Allocate(kNodeRunBytesMax));
  return buffers;
}

Result<SealedNodes> WriteNodes(BlockDevice& device, std::span<const PageRef> pages,
                               const RunBuffers& buffers) {
  // Pieces, then leaves, then their parents: the checksums of the children go into the parents.
  std::vector<const Page*> order;
  for (const auto& page : pages) order.push_back(page.get());
  const auto rank = [](const Page* page) {
    return std::pair((page->level() + 1) & kPieceLevel, page->block());
  };
  std::sort(order.begin(), order.end(),
            [&](const Page* left, const Page* right) { return rank(left) < rank(right); });
  SealedNodes sealed;
  sealed.reserve(pages.size());
  Page copy;
  RunWriter writer(device, buffers);
  for (const auto* page : order) {
    std::memcpy(copy.bytes().data(), page->bytes().data(), kNodeBytes);
    SetChildChecksums(copy, page->birth_epoch(), sealed);
    const auto crc32c = SealNode(copy.bytes());
    sealed.emplace(page->block(), crc32c);
    const auto place = FILER_TRY(writer.Place(page->block()));
    std::memcpy(place.data(), copy.bytes().data(), kNodeBytes);
  }
  FILER_TRY(writer.Finish());
  return sealed;
}

Result<bool> TreeWalk::MarkNew(const NodePointer& pointer) {
  if (!space_.Contains(pointer.block)) return Damaged(pointer, "outside of the node region");
  const auto [seen, is_new] = seen_.try_emplace(pointer.block, Seen{pointer, tree_});
  if (is_new) {
    space_.MarkUsed(pointer.block);
    return true;
  }
  if (seen->second.tree == tree_ || !(seen->second.pointer == pointer)) {
    return Damaged(pointer, "has two parents");
  }
  return false;
}

Result<void> TreeWalk::Mark(const NodePointer& pointer) {
  FILER_TRY(MarkNew(pointer));
  return Ok();
}

// The subtree at `pointer`, whose keys must lie in [low, high) (`high` empty: no end). As deep as
// the tree, kNodeLevelMax at most.
Result<void> TreeWalk::WalkBelow(const NodePointer& pointer, std::uint32_t level,
                                 std::string_view low, std::string_view high,
                                 const TakeCell& take) {
  if (!FILER_TRY(MarkNew(pointer))) {
    is_shared_ = true;
    return Ok();
  }
  const auto page =
      FILER_TRY(reader_.Read({pointer, level, std::string(low), std::string(high), false}));
  cache_.AddRead(page);
  const auto view = page->view();
  for (std::size_t at = 0; at < view.count(); ++at) {
    if (view.is_leaf()) {
      const auto cell = view.leaf(at);
      ++key_count_;
      key_bytes_ += cell.key.size() + cell.value_bytes;
      for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
        if (!FILER_TRY(MarkNew(PieceAt(cell, piece)))) is_shared_ = true;
      }
      if (take) FILER_TRY(take(cell));
      continue;
    }
    const auto child_low = at == 0 ? low : view.key(at);
    const auto child_high = at + 1 < view.count() ? view.key(at + 1) : high;
    FILER_TRY(WalkBelow(view.child(at), level - 1, child_low, child_high, take));
  }
  return Ok();
}

Result<void> TreeWalk::Walk(const TreeRoot& root, const TakeCell& take) {
  ++tree_;
  is_shared_ = false;
  key_count_ = key_bytes_ = 0;
  if (root.pointer.block != 0) {
    FILER_TRY(WalkBelow(root.pointer, root.level, {}, {}, take));
  }
  if (is_shared_ || (key_count_ == root.key_count && key_bytes_ == root.key_bytes)) return Ok();
  return Damaged(root.pointer, "the tree does not match its uberblock");
}

}  // namespace filer::engine
