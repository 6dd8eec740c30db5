// node_verify.cc: which nodes of the tree are on the device and where their parents say they lie,
// for who reads them again to verify them.
#include "fsal/engine/tree/node_tree.h"

namespace filer::engine {

// Dirty ones are in the cache always: what is not there was read from the device once.
bool NodeTree::IsOnDevice(const NodePointer& pointer) const {
  const auto* page = cache_.Find(pointer);
  return page == nullptr || !page->is_dirty;
}

void NodeTree::ListPieces(const Page& leaf, Misses& nodes) const {
  const auto view = leaf.view();
  for (std::size_t at = 0; at < view.count(); ++at) {
    const auto cell = view.leaf(at);
    for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
      const auto pointer = PieceAt(cell, piece);
      if (!IsOnDevice(pointer)) continue;
      nodes.push_back(
          {pointer, kPieceLevel, std::string(cell.key), std::string(cell.key) + '\0', false});
    }
  }
}

NodeTree::Step NodeTree::ListNodes(std::string_view from, std::size_t count_max,
                                   std::uint64_t shared_epoch, Branch& branch,
                                   Misses& misses) const {
  branch = {};
  branch.is_end = root_.block == 0;
  if (branch.is_end) return Step::kDone;
  const auto list_leaf = [&](Miss leaf) {
    const auto* page = cache_.Find(leaf.pointer);
    branch.next = leaf.high;
    branch.is_end = leaf.high.empty();
    if (page != nullptr && page->is_dirty) {
      ListPieces(*page, branch.nodes);
    } else if (leaf.pointer.birth_epoch > shared_epoch) {
      branch.nodes.push_back(std::move(leaf));
    }
  };
  Path path;
  auto pointer = root_;
  for (auto level = root_level_; level > 0; --level) {
    auto miss = MissBelow(path, pointer, level);
    auto* page = cache_.Find(pointer);
    if (page == nullptr) {
      misses.push_back(std::move(miss));
      return Step::kMiss;
    }
    const bool is_ours = pointer.birth_epoch > shared_epoch;
    if (is_ours && from <= miss.low && IsOnDevice(pointer)) branch.nodes.push_back(std::move(miss));
    const auto view = page->view();
    path.push_back({page, view.ChildFor(from)});
    pointer = view.child(path.back().index);
  }
  if (path.empty()) {
    list_leaf(MissBelow(path, pointer, 0));
    return Step::kDone;
  }
  const auto view = path.back().page->view();
  auto& at = path.back().index;
  for (std::size_t count = 0; count < count_max && at < view.count(); ++count, ++at) {
    list_leaf(MissBelow(path, view.child(at), 0));
  }
  return Step::kDone;
}

NodeTree::Step NodeTree::DoesLeadTo(const Miss& wanted, Misses& misses) const {
  const bool is_piece = wanted.level == kPieceLevel;
  const auto level_wanted = is_piece ? 0 : wanted.level;
  if (root_.block == 0 || level_wanted > root_level_) return Step::kAbsent;
  Path path;
  auto pointer = root_;
  for (auto level = root_level_;; --level) {
    if (level == level_wanted && !is_piece) {
      return pointer == wanted.pointer ? Step::kDone : Step::kAbsent;
    }
    auto* page = cache_.Find(pointer);
    if (page == nullptr) {
      misses.push_back(MissBelow(path, pointer, level));
      return Step::kMiss;
    }
    const auto view = page->view();
    if (level > 0) {
      path.push_back({page, view.ChildFor(wanted.low)});
      pointer = view.child(path.back().index);
      continue;
    }
    const auto at = view.LowerBound(wanted.low);
    if (at == view.count() || view.key(at) != wanted.low) return Step::kAbsent;
    const auto cell = view.leaf(at);
    for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
      if (PieceAt(cell, piece) == wanted.pointer) return Step::kDone;
    }
    return Step::kAbsent;
  }
}

}  // namespace filer::engine
