#include "fsal/engine/tree/tree_builder.h"

#include "base/assert.h"

namespace filer::engine {

Result<Page*> TreeBuilder::NewPage(std::uint32_t level) {
  const auto block = space_.Allocate();
  if (!block) {
    return Error(Errc::kNoSpace, "the node region cannot hold the new tree beside the old one");
  }
  pages_.push_back(std::make_shared<Page>(uuid_, level, *block, epoch_));
  return pages_.back().get();
}

NodePointer TreeBuilder::PointerTo(const Page& page) const {
  NodePointer pointer{};
  pointer.block = page.block();
  pointer.birth_epoch = epoch_;
  return pointer;
}

Result<void> TreeBuilder::Keep(const NodePointer& leaf, std::string_view first_key,
                               std::uint64_t key_count, std::uint64_t key_bytes) {
  open_ = nullptr;
  key_count_ += key_count;
  key_bytes_ += key_bytes;
  children_.push_back({std::string(first_key), leaf});
  return Ok();
}

Result<void> TreeBuilder::Add(std::string_view key, std::string_view value) {
  FILER_ASSERT(!key.empty() && key.size() <= kNodeKeyBytesMax);
  FILER_ASSERT(value.size() <= kNodeValueBytesMax);
  const auto value_bytes = static_cast<std::uint32_t>(value.size());
  if (!IsLongValue(value.size())) {
    return AddCell(key, value_bytes, LeafCellOf(key, value_bytes, value));
  }
  std::string pointers;
  while (!value.empty()) {
    const auto part = value.substr(0, kPieceBytesMax);
    Page* const page = FILER_TRY(NewPage(kPieceLevel));
    page->SetPiece(part);
    auto pointer = PointerTo(*page);
    pointer.crc32c = SealNode(page->bytes());
    pointers.append(reinterpret_cast<const char*>(&pointer), sizeof(pointer));
    value.remove_prefix(part.size());
  }
  return AddCell(key, value_bytes, LeafCellOf(key, value_bytes, pointers));
}

Result<void> TreeBuilder::AddCell(std::string_view key, std::size_t value_bytes,
                                  std::string_view cell) {
  ++key_count_;
  key_bytes_ += key.size() + value_bytes;
  if (open_ != nullptr && open_->Insert(open_->view().count(), cell)) return Ok();
  open_ = FILER_TRY(NewPage(0));
  const bool is_in = open_->Insert(0, cell);
  FILER_ASSERT(is_in);  // an empty node takes any cell
  children_.push_back({std::string(key), PointerTo(*open_)});
  return Ok();
}

Result<NodePointer> TreeBuilder::Finish() {
  if (children_.empty()) return NodePointer{};
  while (children_.size() > 1) {
    ++level_;
    FILER_ASSERT(level_ <= kNodeLevelMax);
    std::vector<Child> parents;
    Page* page = nullptr;
    for (const Child& child : children_) {
      if (page != nullptr &&
          page->Insert(page->view().count(), InnerCellOf(child.low, child.pointer))) {
        continue;
      }
      page = FILER_TRY(NewPage(level_));
      const bool is_in = page->Insert(0, InnerCellOf({}, child.pointer));
      FILER_ASSERT(is_in);
      parents.push_back({child.low, PointerTo(*page)});
    }
    children_ = std::move(parents);
  }
  return children_.front().pointer;
}

}  // namespace filer::engine
