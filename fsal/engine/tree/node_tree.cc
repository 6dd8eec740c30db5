#include "fsal/engine/tree/node_tree.h"

#include <algorithm>
#include <array>

#include "base/assert.h"

namespace filer::engine {
namespace {

// A node with less than a quarter of its bytes in use looks for a neighbour; together they fill
// three quarters at most, so that the next put does not split them again.
constexpr std::size_t kMergeBelowBytes = kNodeBodyBytes / 4;
constexpr std::size_t kMergedBytesMax = kNodeBodyBytes * 3 / 4;
// Of a scan that goes from one leaf to the next, and has to read that.
constexpr std::size_t kLeavesAhead = 15;

// The shortest key that is greater than `left` and not greater than `right`.
std::string_view ShortestBetween(std::string_view left, std::string_view right) {
  const auto shorter = std::min(left.size(), right.size());
  std::size_t same = 0;
  while (same < shorter && left[same] == right[same]) ++same;
  return right.substr(0, same + 1);
}

// Splits of the nodes of one level: each takes a put below, and a node that was split once takes a
// quarter of its bytes in new cells before it is split again.
std::uint64_t SplitsAtMost(std::uint64_t put_count, std::uint64_t node_count,
                           std::uint64_t put_bytes) {
  return std::min(put_count, 2 * node_count + 2 + put_bytes * 4 / kNodeBodyBytes);
}

}  // namespace

void OpenNodes::Add(PageRef page) {
  page->is_dirty = true;
  page->dirty_index = dirty_.size();
  dirty_.push_back(std::move(page));
}

void OpenNodes::Remove(const Page& page) {
  const auto index = page.dirty_index;
  dirty_.back()->dirty_index = index;
  std::swap(dirty_[index], dirty_.back());
  dirty_.pop_back();
}

void NodeTree::Start(const TreeRoot& root, std::uint64_t shared_epoch) {
  root_ = root.pointer;
  root_level_ = root.level;
  shared_epoch_ = shared_epoch;
  key_count_ = root.key_count;
  key_bytes_ = root.key_bytes;
}

// Reading

// The child of the path's end that it took.
Miss NodeTree::MissBelow(const Path& path, const NodePointer& pointer, std::uint32_t level) {
  Miss miss{pointer, level, {}, {}, false};
  bool has_low = false;
  bool has_high = false;
  for (auto step = path.rbegin(); step != path.rend(); ++step) {
    const auto view = step->page->view();
    if (!has_low && step->index > 0) {
      miss.low = view.key(step->index);
      has_low = true;
    }
    if (!has_high && step->index + 1 < view.count()) {
      miss.high = view.key(step->index + 1);
      has_high = true;
    }
  }
  return miss;
}

// In a damaged tree a pointer may lead to a node that is in memory for another reason. It is read
// then, which tells what is wrong.
Page* NodeTree::FindAt(const NodePointer& pointer, std::uint32_t level) const {
  auto* page = cache_.Find(pointer);
  return page != nullptr && page->level() == level ? page : nullptr;
}

bool NodeTree::Descend(Path& path, NodePointer pointer, std::uint32_t level, Toward toward,
                       std::string_view key, Misses& misses) const {
  for (;; --level) {
    auto* page = FindAt(pointer, level);
    if (page == nullptr) {
      misses.push_back(MissBelow(path, pointer, level));
      return false;
    }
    path.push_back({page, 0});
    if (level == 0) return true;
    const auto view = page->view();
    auto& index = path.back().index;
    if (toward == Toward::kKey) index = view.ChildFor(key);
    if (toward == Toward::kLast) index = view.count() - 1;
    pointer = view.child(index);
  }
}

NodeTree::Step NodeTree::ReadValue(const LeafCell& cell, std::string& value, Misses& misses) const {
  if (!IsLongValue(cell.value_bytes)) {
    value.assign(cell.stored);
    return Step::kDone;
  }
  value.clear();
  value.reserve(cell.value_bytes);
  const auto missed = misses.size();
  for (std::size_t at = 0; at < PiecesOf(cell.value_bytes); ++at) {
    const auto pointer = PieceAt(cell, at);
    const auto* page = FindAt(pointer, kPieceLevel);
    if (page == nullptr) {
      misses.push_back({pointer, kPieceLevel, {}, {}, false});
    } else if (misses.size() == missed) {
      value.append(page->view().piece());
    }
  }
  if (misses.size() > missed) return Step::kMiss;
  return value.size() == cell.value_bytes ? Step::kDone : Step::kDamaged;
}

NodeTree::Step NodeTree::Find(std::string_view key, std::string& value, Misses& misses) const {
  if (root_.block == 0) return Step::kAbsent;
  auto pointer = root_;
  for (auto level = root_level_;; --level) {
    const auto* page = FindAt(pointer, level);
    if (page == nullptr) {
      Path path;  // once more, for what lies above it
      Descend(path, root_, root_level_, Toward::kKey, key, misses);
      return Step::kMiss;
    }
    const auto view = page->view();
    if (level > 0) {
      pointer = view.child(view.ChildFor(key));
      continue;
    }
    const auto at = view.LowerBound(key);
    if (at == view.count() || view.key(at) != key) return Step::kAbsent;
    return ReadValue(view.leaf(at), value, misses);
  }
}

// The leaves behind the one that was just missed, `path` being the way to their parent: they are
// read together.
void NodeTree::MissAhead(Path path, std::string_view to, Misses& misses) const {
  const auto view = path.back().page->view();
  const auto last = std::min(view.count(), path.back().index + 1 + kLeavesAhead);
  while (++path.back().index < last) {
    const auto at = path.back().index;
    if (!to.empty() && view.key(at) >= to) return;
    if (cache_.Find(view.child(at)) != nullptr) continue;
    misses.push_back(MissBelow(path, view.child(at), 0));
    misses.back().is_ahead = true;
  }
}

// Leaves `path` at the first leaf behind its own; false: missed, or there is none (path is empty).
bool NodeTree::ToNextLeaf(Path& path, std::string_view to, Misses& misses) const {
  path.pop_back();
  while (!path.empty() && path.back().index + 1 == path.back().page->view().count()) {
    path.pop_back();
  }
  if (path.empty()) return false;
  const auto view = path.back().page->view();
  const auto pointer = view.child(++path.back().index);
  if (Descend(path, pointer, view.level() - 1, Toward::kFirst, {}, misses)) return true;
  if (misses.back().level == 0) MissAhead(path, to, misses);
  return false;
}

NodeTree::Step NodeTree::Scan(std::string& from, std::string_view to, const Visit& visit,
                              Misses& misses) const {
  if (root_.block == 0) return Step::kDone;
  Path path;
  if (!Descend(path, root_, root_level_, Toward::kKey, from, misses)) return Step::kMiss;
  auto at = path.back().page->view().LowerBound(from);
  std::string long_value;
  std::optional<std::string_view> visited;
  const auto missed = [&] {
    if (visited) from = std::string(*visited) + '\0';
    return Step::kMiss;
  };
  for (;;) {
    const auto leaf = path.back().page->view();
    for (; at < leaf.count(); ++at) {
      const auto cell = leaf.leaf(at);
      if (!to.empty() && cell.key >= to) return Step::kDone;
      auto value = cell.stored;
      if (IsLongValue(cell.value_bytes)) {
        const auto step = ReadValue(cell, long_value, misses);
        if (step == Step::kMiss) return missed();
        if (step != Step::kDone) return step;
        value = long_value;
      }
      if (!visit(cell.key, value)) return Step::kDone;
      visited = cell.key;
    }
    at = 0;
    if (!ToNextLeaf(path, to, misses)) return path.empty() ? Step::kDone : missed();
  }
}

NodeTree::Step NodeTree::Last(std::string_view from, std::string_view to,
                              std::pair<std::string, std::string>& found, Misses& misses) const {
  if (root_.block == 0) return Step::kAbsent;
  Path path;
  const auto toward = to.empty() ? Toward::kLast : Toward::kKey;
  if (!Descend(path, root_, root_level_, toward, to, misses)) return Step::kMiss;
  auto leaf = path.back().page->view();
  auto end = to.empty() ? leaf.count() : leaf.LowerBound(to);
  if (end == 0) {
    // All keys of this leaf are too great, so it is the last one of the leaf before.
    path.pop_back();
    while (!path.empty() && path.back().index == 0) path.pop_back();
    if (path.empty()) return Step::kAbsent;
    const auto view = path.back().page->view();
    const auto pointer = view.child(--path.back().index);
    if (!Descend(path, pointer, view.level() - 1, Toward::kLast, {}, misses)) return Step::kMiss;
    leaf = path.back().page->view();
    end = leaf.count();
  }
  const auto cell = leaf.leaf(end - 1);
  if (cell.key < from) return Step::kAbsent;
  found.first.assign(cell.key);
  return ReadValue(cell, found.second, misses);
}

// Preparing

NodeTree::Step NodeTree::Prepare(std::span<const TreeChange> changes, Needs& needs,
                                 Misses& misses) {
  const auto visit = open_.NextVisit();
  needs = {};
  std::array<std::uint64_t, kNodeLevelMax + 1> node_counts{};
  std::uint64_t put_count = 0;
  std::uint64_t put_bytes = 0;
  std::uint64_t added_bytes = 0;
  std::uint64_t removed_bytes = 0;
  Path path;
  for (const auto& change : changes) {
    path.clear();
    const auto& [key, value] = change;
    if (root_.block != 0 && Descend(path, root_, root_level_, Toward::kKey, key, misses)) {
      const auto leaf = path.back().page->view();
      const auto at = leaf.LowerBound(key);
      if (at < leaf.count() && leaf.key(at) == key) removed_bytes += leaf.leaf(at).value_bytes;
    }
    for (const auto& step : path) {
      if (std::exchange(step.page->visit, visit) == visit) continue;
      ++node_counts[step.page->level()];
      if (step.page->birth_epoch() != open_.epoch()) ++needs.unit_count;
    }
    if (!value) {
      needs.has_erase = true;
      continue;
    }
    ++put_count;
    put_bytes += sizeof(LeafCellHeader) + kSlotBytes + key.size() + StoredValueBytes(value->size());
    needs.unit_count += PiecesOf(value->size());
    added_bytes += value->size();
  }
  needs.is_growing = added_bytes > removed_bytes;
  if (!misses.empty()) return Step::kMiss;
  auto splits = SplitsAtMost(put_count, node_counts[0], put_bytes);
  needs.unit_count += splits;
  for (std::uint32_t level = 1; level <= root_level_; ++level) {
    splits = SplitsAtMost(splits, node_counts[level], splits * (kInnerCellBytesMax + kSlotBytes));
    needs.unit_count += splits;
  }
  if (put_count > 0) needs.unit_count += 2 + splits / 4;  // new roots
  return Step::kDone;
}

// Changing

NodePointer NodeTree::PointerTo(const Page& page) const noexcept {
  NodePointer pointer{};
  pointer.block = page.block();
  pointer.birth_epoch = page.birth_epoch();
  return pointer;
}

void NodeTree::AddDirty(PageRef page) {
  open_.Add(page);
  cache_.AddNew(std::move(page));
}

Page& NodeTree::NewPage(std::uint32_t level) {
  const auto block = space_.Allocate();
  FILER_ASSERT(block);  // Prepare counted it
  auto page = std::make_shared<Page>(uuid_, level, *block, open_.epoch());
  auto& made = *page;
  AddDirty(std::move(page));
  return made;
}

Page& NodeTree::CopyPage(Page& page) {
  const auto block = space_.Allocate();
  FILER_ASSERT(block);  // Prepare counted it
  auto copy = std::make_shared<Page>(page, *block, open_.epoch());
  auto& made = *copy;
  Free(PointerTo(page));
  AddDirty(std::move(copy));
  return made;
}

void NodeTree::Free(const NodePointer& pointer) {
  if (pointer.birth_epoch != open_.epoch()) {
    if (!space_.Contains(pointer.block)) return space_.Confuse();
    if (pointer.birth_epoch <= shared_epoch_) {
      buried_.push_back({{pointer.block, kNodeBlocks}, pointer.birth_epoch});
      return;
    }
    const auto* there = cache_.FindAny(pointer.block);
    if (there != nullptr && there->is_dirty && there->birth_epoch() != pointer.birth_epoch) {
      return space_.Confuse();  // ours, and given out while this pointer led there
    }
    space_.FreeLater(pointer.block, open_.epoch());
    cache_.Remove(pointer.block);  // a checkpoint under way holds it for itself
    return;
  }
  const auto* page = cache_.Find(pointer);
  FILER_ASSERT(page != nullptr);  // dirty nodes stay
  open_.Remove(*page);
  cache_.Remove(pointer.block);
  space_.FreeNow(pointer.block);
}

void NodeTree::FreePieces(const LeafCell& cell) {
  for (std::size_t at = 0; at < PiecesOf(cell.value_bytes); ++at) Free(PieceAt(cell, at));
}

// The pointers to the pieces. Their content is final, so their checksums are known at once.
std::string NodeTree::MakePieces(std::string_view value) {
  std::string pointers;
  for (auto rest = value; !rest.empty();) {
    const auto part = rest.substr(0, kPieceBytesMax);
    auto& page = NewPage(kPieceLevel);
    page.SetPiece(part);
    auto pointer = PointerTo(page);
    pointer.crc32c = SealNode(page.bytes());
    pointers.append(reinterpret_cast<const char*>(&pointer), sizeof(pointer));
    rest.remove_prefix(part.size());
  }
  return pointers;
}

// The way to `key`, every node of it ours to change. Prepare saw to it that it is there. Empty: a
// change before this one took a node of it away, which has two parents then.
NodeTree::Path NodeTree::OwnPath(std::string_view key) {
  Path path;
  Misses misses;
  if (!Descend(path, root_, root_level_, Toward::kKey, key, misses)) {
    space_.Confuse();
    return {};
  }
  for (std::size_t depth = 0; depth < path.size(); ++depth) {
    auto& step = path[depth];
    if (step.page->birth_epoch() == open_.epoch()) continue;
    step.page = &CopyPage(*step.page);
    const auto pointer = PointerTo(*step.page);
    if (depth == 0) {
      root_ = pointer;
    } else {
      path[depth - 1].page->SetChild(path[depth - 1].index, pointer);
    }
  }
  return path;
}

void NodeTree::Put(std::string_view key, std::string_view value) {
  if (root_.block == 0) {
    root_ = PointerTo(NewPage(0));
    root_level_ = 0;
  }
  auto path = OwnPath(key);
  if (path.empty()) return;
  auto& leaf = *path.back().page;
  const auto at = leaf.view().LowerBound(key);
  if (at < leaf.view().count() && leaf.view().key(at) == key) {
    const auto cell = leaf.view().leaf(at);
    key_bytes_ -= cell.key.size() + cell.value_bytes;
    FreePieces(cell);
    leaf.Remove(at);
  } else {
    ++key_count_;
  }
  key_bytes_ += key.size() + value.size();
  const auto pieces = IsLongValue(value.size()) ? MakePieces(value) : std::string();
  const auto cell = LeafCellOf(key, static_cast<std::uint32_t>(value.size()),
                               IsLongValue(value.size()) ? std::string_view(pieces) : value);
  InsertAt(path, path.size() - 1, at, cell);
}

void NodeTree::InsertAt(Path& path, std::size_t depth, std::size_t at, std::string_view cell) {
  auto& page = *path[depth].page;
  if (page.Insert(at, cell)) return;
  auto& right = NewPage(page.level());
  const auto count = page.view().count();
  // Keys that come in ascending order leave full nodes behind.
  const auto kept = at == count ? count : page.SplitPoint();
  page.MoveTail(kept, right);
  const bool is_left = at < kept;
  const bool is_in = is_left ? page.Insert(at, cell) : right.Insert(at - kept, cell);
  FILER_ASSERT(is_in);
  AddSibling(path, depth, right);
}

// Tells the parent of path[depth] about the node that was split off it.
void NodeTree::AddSibling(Path& path, std::size_t depth, Page& right) {
  const auto& left = *path[depth].page;
  std::string separator;
  if (right.level() == 0) {
    separator = ShortestBetween(left.view().key(left.view().count() - 1), right.view().key(0));
  } else {
    separator = right.view().key(0);
    const auto first = InnerCellOf({}, right.view().child(0));
    right.Remove(0);
    right.Insert(0, first);
  }
  const auto cell = InnerCellOf(separator, PointerTo(right));
  if (depth > 0) {
    InsertAt(path, depth - 1, path[depth - 1].index + 1, cell);
    return;
  }
  FILER_ASSERT(root_level_ < kNodeLevelMax);
  auto& root = NewPage(++root_level_);
  root.Insert(0, InnerCellOf({}, PointerTo(left)));
  root.Insert(1, cell);
  root_ = PointerTo(root);
}

void NodeTree::Erase(std::string_view key) {
  if (root_.block == 0) return;
  Path path;
  Misses misses;
  if (!Descend(path, root_, root_level_, Toward::kKey, key, misses)) return space_.Confuse();
  const auto found = path.back().page->view().LowerBound(key);
  const auto view = path.back().page->view();
  if (found == view.count() || view.key(found) != key) return;
  path = OwnPath(key);
  const auto cell = path.back().page->view().leaf(found);
  --key_count_;
  key_bytes_ -= cell.key.size() + cell.value_bytes;
  FreePieces(cell);
  path.back().page->Remove(found);
}

void NodeTree::Apply(std::span<const TreeChange> changes) {
  for (const auto& [key, value] : changes) {
    if (value) {
      Put(key, *value);
    } else {
      Erase(key);
    }
  }
  // Only now: a node that goes makes its range its neighbour's, which need not be in memory, so the
  // changes that follow could not be applied.
  for (const auto& [key, value] : changes) {
    if (!value) Shrink(key);
  }
}

// The first child takes what is below the second's key, whatever its own was.
void NodeTree::RemoveChild(Page& parent, std::size_t at) {
  parent.Remove(at);
  if (at > 0 || parent.view().count() == 0) return;
  const auto first = InnerCellOf({}, parent.view().child(0));
  parent.Remove(0);
  parent.Insert(0, first);
}

// Mends the way to `key` after something was erased there: no node stays empty, small ones are
// joined with a neighbour that is in memory. Takes no space, and leaves alone what is not ours yet.
void NodeTree::Shrink(std::string_view key) {
  if (root_.block == 0) return;
  Path path;
  Misses misses;
  if (!Descend(path, root_, root_level_, Toward::kKey, key, misses)) return;
  for (auto depth = path.size(); depth-- > 0;) {
    auto& page = *path[depth].page;
    if (page.birth_epoch() != open_.epoch()) return;
    if (depth == 0) break;
    auto& parent = *path[depth - 1].page;
    if (page.view().count() == 0) {
      Free(PointerTo(page));
      RemoveChild(parent, path[depth - 1].index);
    } else if (page.used_bytes() >= kMergeBelowBytes ||
               !MergeAround(parent, path[depth - 1].index)) {
      break;
    }
  }
  LowerRoot();
}

void NodeTree::LowerRoot() {
  for (;;) {
    const auto* page = cache_.Find(root_);
    if (page == nullptr || page->birth_epoch() != open_.epoch()) return;
    const auto view = page->view();
    if (view.count() > 1 || (view.is_leaf() && view.count() > 0)) return;
    const auto old = root_;
    const auto child = view.count() == 0 ? NodePointer{} : view.child(0);
    root_level_ = view.count() == 0 ? 0 : root_level_ - 1;
    root_ = child;
    Free(old);
    if (root_.block == 0) return;
  }
}

// Takes the cells of a neighbour into child `at` of `parent`, which is dirty. False: none fits.
bool NodeTree::MergeAround(Page& parent, std::size_t at) {
  auto* page = cache_.Find(parent.view().child(at));
  FILER_ASSERT(page != nullptr && page->birth_epoch() == open_.epoch());
  const auto fits = [&](const Page* other) {
    return other != nullptr && other->level() == page->level() &&
           page->used_bytes() + other->used_bytes() + kNodeKeyBytesMax <= kMergedBytesMax;
  };
  // A first key is empty in its node and the separator in the parent: it comes back with the cells.
  const auto cell_of = [](const NodeView& view, std::size_t cell, std::string_view separator) {
    if (view.is_leaf() || cell > 0) return std::string(view.cell(cell));
    return InnerCellOf(separator, view.child(cell));
  };
  if (at + 1 < parent.view().count()) {
    const auto* right = cache_.Find(parent.view().child(at + 1));
    if (fits(right)) {
      const auto view = right->view();
      for (std::size_t cell = 0; cell < view.count(); ++cell) {
        page->Insert(page->view().count(), cell_of(view, cell, parent.view().key(at + 1)));
      }
      Free(parent.view().child(at + 1));
      RemoveChild(parent, at + 1);
      return true;
    }
  }
  if (at == 0) return false;
  const auto* left = cache_.Find(parent.view().child(at - 1));
  if (!fits(left)) return false;
  const auto first = cell_of(page->view(), 0, parent.view().key(at));
  page->Remove(0);
  page->Insert(0, first);
  const auto view = left->view();
  for (auto cell = view.count(); cell-- > 0;) page->Insert(0, view.cell(cell));
  Free(parent.view().child(at - 1));
  parent.SetChild(at - 1, PointerTo(*page));
  RemoveChild(parent, at);
  return true;
}

// Checkpoints

std::vector<PageRef> OpenNodes::Freeze() {
  FILER_ASSERT(frozen_count_ == 0);
  auto pages = std::exchange(dirty_, {});
  frozen_count_ = pages.size();
  ++epoch_;
  return pages;
}

TreeRoot NodeTree::Root() const {
  TreeRoot root;
  root.pointer = root_;
  root.level = root_level_;
  root.key_count = key_count_;
  root.key_bytes = key_bytes_;
  return root;
}

void SetChildChecksums(Page& page, std::uint64_t epoch, const SealedNodes& sealed) {
  if (page.level() == 0 || page.level() == kPieceLevel) return;
  for (std::size_t at = 0; at < page.view().count(); ++at) {
    auto pointer = page.view().child(at);
    if (pointer.birth_epoch != epoch) continue;
    const auto found = sealed.find(pointer.block);
    FILER_ASSERT(found != sealed.end());
    pointer.crc32c = found->second;
    page.SetChild(at, pointer);
  }
}

void OpenNodes::SetChecksums(std::span<const PageRef> pages, const SealedNodes& sealed) {
  for (const auto& page : pages) SetChildChecksums(*page, page->birth_epoch(), sealed);
}

void OpenNodes::SetOpenChecksums(std::uint64_t epoch, const SealedNodes& sealed) {
  for (const auto& page : dirty_) SetChildChecksums(*page, epoch, sealed);
}

void NodeTree::SetRootChecksum(std::uint64_t epoch, const SealedNodes& sealed) {
  if (root_.block != 0 && root_.birth_epoch == epoch) root_.crc32c = sealed.at(root_.block);
}

void OpenNodes::SetClean(std::span<const PageRef> pages) {
  for (const auto& page : pages) page->is_dirty = false;
  frozen_count_ -= pages.size();
}

}  // namespace filer::engine
