// store_verify.cc: nodes read from the device again while the store is in use. No lock is held
// across a read, so a node may have been freed, and its place written anew, before it is read: only
// what the tree leads to both before and after a read that failed counts as damaged.
#include <algorithm>
#include <mutex>
#include <utility>

#include "fsal/engine/tree/store_impl.h"

namespace filer::engine {
namespace {

constexpr std::size_t kHeldInnerNodes = 64;
constexpr std::size_t kPiecesAtOnce = 64;

}  // namespace

// False also if the way there cannot be read: then it is that which is damaged.
bool StoreImpl::DoesLeadTo(const TreeState& of, const Miss& wanted) const {
  Held held(kHeldInnerNodes);
  for (;;) {
    Misses misses;
    {
      const std::shared_lock lock(map_mutex_);
      const auto step = of.tree.DoesLeadTo(wanted, misses);
      if (step != NodeTree::Step::kMiss) return step == NodeTree::Step::kDone;
    }
    if (!Load(misses, held).has_value()) return false;
  }
}

// A read of `miss` failed.
Result<void> StoreImpl::Judge(const TreeState& of, const Miss& miss, const Error& error,
                              VerifiedNodes& verified) const {
  if (error == Errc::kDeviceGone || error == Errc::kNoMemory) return error;
  if (!DoesLeadTo(of, miss)) return Ok();
  const auto again = reader_.Read(miss);
  if (again.has_value()) return Ok();
  if (again.error() == Errc::kDeviceGone || again.error() == Errc::kNoMemory) return again.error();
  if (!DoesLeadTo(of, miss)) return Ok();
  verified.damaged.push_back(
      {miss.pointer.block, miss.level, miss.low, miss.high, again.error().message()});
  return Ok();
}

// Adds what the sound leaves among them refer to, to `pieces` (may be null).
Result<void> StoreImpl::VerifyAll(const TreeState& of, std::span<const Miss> nodes, Misses* pieces,
                                  VerifiedNodes& verified) const {
  const auto read = reader_.ReadAll(nodes);
  read_count_.fetch_add(nodes.size(), std::memory_order_relaxed);
  verified.node_count += nodes.size();
  for (std::size_t at = 0; at < nodes.size(); ++at) {
    if (!read[at].has_value()) {
      FILER_TRY(Judge(of, nodes[at], read[at].error(), verified));
      continue;
    }
    if (pieces == nullptr || nodes[at].level != 0) continue;
    const auto view = read[at].value()->view();
    for (std::size_t index = 0; index < view.count(); ++index) {
      const auto cell = view.leaf(index);
      for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
        pieces->push_back({PieceAt(cell, piece), kPieceLevel, std::string(cell.key),
                           std::string(cell.key) + '\0'});
      }
    }
  }
  return Ok();
}

Result<VerifiedNodes> StoreImpl::VerifyLists(std::string_view from, std::size_t count_max) const {
  return VerifyNodesOf(*lists_, from, count_max);
}

Result<VerifiedNodes> StoreImpl::VerifyNodesOf(const TreeState& of, std::string_view from,
                                               std::size_t count_max) const {
  VerifiedNodes verified;
  // What a live tree shares is read with its snapshot.
  const auto shared_epoch = of.record.kind == TreeKind::kLive ? of.shared_epoch.load() : 0;
  NodeTree::Branch branch;
  Held held(kHeldInnerNodes);
  for (;;) {
    Misses misses;
    {
      const std::shared_lock lock(map_mutex_);
      if (of.tree.ListNodes(from, count_max, shared_epoch, branch, misses) == NodeTree::Step::kDone)
        break;
    }
    const auto& miss = misses.front();
    auto page = reader_.Read(miss);
    read_count_.fetch_add(1, std::memory_order_relaxed);
    if (page.has_value()) {
      const std::unique_lock lock(map_mutex_);
      held.Add(cache_.AddRead(std::move(page).value()));
      continue;
    }
    FILER_TRY(Judge(of, miss, page.error(), verified));
    if (verified.damaged.empty()) continue;  // the tree leads elsewhere by now
    verified.next = miss.high;
    verified.is_end = miss.high.empty();
    return verified;
  }
  verified.next = std::move(branch.next);
  verified.is_end = branch.is_end;
  Misses pieces;
  FILER_TRY(VerifyAll(of, branch.nodes, &pieces, verified));
  for (std::size_t first = 0; first < pieces.size(); first += kPiecesAtOnce) {
    const auto count = std::min(kPiecesAtOnce, pieces.size() - first);
    FILER_TRY(VerifyAll(of, std::span(pieces).subspan(first, count), nullptr, verified));
  }
  return verified;
}

}  // namespace filer::engine
