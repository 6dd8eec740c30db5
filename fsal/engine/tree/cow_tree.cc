#include "fsal/engine/tree/cow_tree.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/assert.h"

namespace filer::engine {
namespace {

constexpr std::size_t kFanoutMax = 64;
constexpr std::size_t kFanoutMin = kFanoutMax / 4;  // below: look for a neighbour to merge with
constexpr std::size_t kFanoutMerged =
    kFanoutMax * 3 / 4;  // at most, so that the next put does not split again

std::size_t CountOf(const CowNode& node) {
  return node.is_leaf() ? node.records.size() : node.children.size();
}

// Index of the child that holds `key`.
std::size_t ChildFor(const CowNode& node, std::string_view key) {
  const auto it = std::upper_bound(node.separators.begin(), node.separators.end(), key,
                                   [](std::string_view k, const std::string& s) { return k < s; });
  return static_cast<std::size_t>(it - node.separators.begin());
}

// Index of the first record >= key.
std::size_t RecordFrom(const CowNode& leaf, std::string_view key) {
  const auto it =
      std::lower_bound(leaf.records.begin(), leaf.records.end(), key,
                       [](const RecordRef& r, std::string_view k) { return r.key() < k; });
  return static_cast<std::size_t>(it - leaf.records.begin());
}

bool VisitRange(const CowNode& node, std::string_view from, std::string_view to,
                const CowTree::Visit& visit) {
  if (node.is_leaf()) {
    for (auto at = RecordFrom(node, from); at < node.records.size(); ++at) {
      const auto& record = node.records[at];
      if (!to.empty() && record.key() >= to) return false;
      if (!visit(record.key(), record.value())) return false;
    }
    return true;
  }
  for (auto at = ChildFor(node, from); at < node.children.size(); ++at) {
    if (!VisitRange(*node.children[at], from, to, visit)) return false;
  }
  return true;
}

// The greatest record with a key below `to` (empty: no bound).
const RecordRef* LastBelow(const CowNode& node, std::string_view to) {
  if (node.is_leaf()) {
    const auto end = to.empty() ? node.records.size() : RecordFrom(node, to);
    return end == 0 ? nullptr : &node.records[end - 1];
  }
  auto at = to.empty() ? node.children.size() - 1 : ChildFor(node, to);
  for (;; --at) {
    if (const auto* found = LastBelow(*node.children[at], to)) return found;
    if (at == 0) return nullptr;
  }
}

std::string CheckNode(const CowNode& node, std::string_view low, std::string_view high,
                      std::size_t depth, std::size_t& leaf_depth, bool is_root) {
  if (!is_root && CountOf(node) == 0) return "empty node";
  if (CountOf(node) > kFanoutMax) return "node too full";
  const auto in_range = [&](std::string_view key) {
    return key >= low && (high.empty() || key < high);
  };
  if (node.is_leaf()) {
    if (leaf_depth == 0) leaf_depth = depth;
    if (leaf_depth != depth) return "leaves at different depths";
    for (std::size_t at = 0; at < node.records.size(); ++at) {
      const auto key = node.records[at].key();
      if (!in_range(key)) return "key out of range";
      if (at > 0 && node.records[at - 1].key() >= key) return "keys out of order";
    }
    return {};
  }
  if (node.separators.size() + 1 != node.children.size()) return "separator count";
  for (std::size_t at = 0; at < node.children.size(); ++at) {
    const auto child_low = at == 0 ? low : std::string_view(node.separators[at - 1]);
    const auto child_high =
        at == node.separators.size() ? high : std::string_view(node.separators[at]);
    if (!in_range(child_low)) return "separator out of range";
    auto error = CheckNode(*node.children[at], child_low, child_high, depth + 1, leaf_depth, false);
    if (!error.empty()) return error;
  }
  return {};
}

}  // namespace

struct RecordRef::Body {
  std::atomic<std::uint32_t> reference_count{1};
  std::uint32_t key_bytes;
  std::uint32_t value_bytes;
  char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
};

RecordRef::RecordRef(std::string_view key, std::string_view value) {
  void* memory = ::operator new(sizeof(Body) + key.size() + value.size());
  body_ = new (memory) Body;
  body_->key_bytes = static_cast<std::uint32_t>(key.size());
  body_->value_bytes = static_cast<std::uint32_t>(value.size());
  std::copy(key.begin(), key.end(), body_->bytes());
  std::copy(value.begin(), value.end(), body_->bytes() + key.size());
}

RecordRef::RecordRef(const RecordRef& other) noexcept : body_(other.body_) {
  body_->reference_count.fetch_add(1, std::memory_order_relaxed);  // we hold one already
}

RecordRef::~RecordRef() {
  if (body_ == nullptr) return;
  // Release our reads; the last one acquires everybody's before it frees.
  if (body_->reference_count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  body_->~Body();
  ::operator delete(body_);
}

std::string_view RecordRef::key() const noexcept { return {body_->bytes(), body_->key_bytes}; }

std::string_view RecordRef::value() const noexcept {
  return {body_->bytes() + body_->key_bytes, body_->value_bytes};
}

CowTree::CowTree() : root_(std::make_shared<CowNode>()) { root_->epoch = epoch_; }

CowTree::Snapshot CowTree::TakeSnapshot() {
  ++epoch_;
  return Snapshot(root_);
}

void CowTree::Snapshot::ForEach(const Visit& visit) const { VisitRange(*root_, {}, {}, visit); }

CowNode& CowTree::Own(NodeRef& node) {
  if (node->epoch != epoch_) {
    node = std::make_shared<CowNode>(*node);
    node->epoch = epoch_;
  }
  return *node;
}

std::optional<std::string_view> CowTree::Find(std::string_view key) const {
  const auto* node = root_.get();
  while (!node->is_leaf()) node = node->children[ChildFor(*node, key)].get();
  const auto at = RecordFrom(*node, key);
  if (at == node->records.size() || node->records[at].key() != key) return std::nullopt;
  return node->records[at].value();
}

void CowTree::Put(std::string_view key, std::string_view value) {
  auto split = PutInto(root_, RecordRef(key, value));
  if (!split) return;
  auto root = std::make_shared<CowNode>();
  root->epoch = epoch_;
  root->separators.push_back(std::move(split->separator));
  root->children.push_back(std::move(root_));
  root->children.push_back(std::move(split->right));
  root_ = std::move(root);
}

std::optional<CowTree::Split> CowTree::PutInto(NodeRef& ref, RecordRef record) {
  auto& node = Own(ref);
  if (node.is_leaf()) {
    const auto at = RecordFrom(node, record.key());
    if (at < node.records.size() && node.records[at].key() == record.key()) {
      node.records[at] = std::move(record);
      return std::nullopt;
    }
    node.records.insert(node.records.begin() + static_cast<std::ptrdiff_t>(at), std::move(record));
    ++size_;
    return SplitIfFull(node);
  }
  const auto at = ChildFor(node, record.key());
  auto split = PutInto(node.children[at], std::move(record));
  if (!split) return std::nullopt;
  const auto offset = static_cast<std::ptrdiff_t>(at);
  node.separators.insert(node.separators.begin() + offset, std::move(split->separator));
  node.children.insert(node.children.begin() + offset + 1, std::move(split->right));
  return SplitIfFull(node);
}

std::optional<CowTree::Split> CowTree::SplitIfFull(CowNode& node) {
  if (CountOf(node) <= kFanoutMax) return std::nullopt;
  auto right = std::make_shared<CowNode>();
  right->epoch = epoch_;
  const auto keep = static_cast<std::ptrdiff_t>(CountOf(node) / 2);
  std::string separator;
  if (node.is_leaf()) {
    right->records.assign(node.records.begin() + keep, node.records.end());
    node.records.erase(node.records.begin() + keep, node.records.end());
    separator = std::string(right->records.front().key());
  } else {
    right->children.assign(node.children.begin() + keep, node.children.end());
    right->separators.assign(node.separators.begin() + keep, node.separators.end());
    separator = std::move(node.separators[static_cast<std::size_t>(keep) - 1]);
    node.children.erase(node.children.begin() + keep, node.children.end());
    node.separators.erase(node.separators.begin() + keep - 1, node.separators.end());
  }
  return Split{std::move(separator), std::move(right)};
}

bool CowTree::Erase(std::string_view key) {
  if (!Find(key)) return false;  // copies nothing for a key that is not there
  EraseFrom(root_, key);
  --size_;
  while (!root_->is_leaf() && root_->children.size() == 1) {
    NodeRef only = root_->children.front();
    root_ = std::move(only);
  }
  return true;
}

void CowTree::EraseFrom(NodeRef& ref, std::string_view key) {
  auto& node = Own(ref);
  if (node.is_leaf()) {
    const auto at = RecordFrom(node, key);
    FILER_ASSERT(at < node.records.size() && node.records[at].key() == key);
    node.records.erase(node.records.begin() + static_cast<std::ptrdiff_t>(at));
    return;
  }
  const auto at = ChildFor(node, key);
  EraseFrom(node.children[at], key);
  if (CountOf(*node.children[at]) < kFanoutMin) MergeAround(node, at);
}

void CowTree::MergeAround(CowNode& parent, std::size_t index) {
  const auto count_at = [&](std::size_t at) { return CountOf(*parent.children[at]); };
  if (count_at(index) == 0) {
    // It goes, and its range falls to a neighbour. A parent left without children is empty itself:
    // its own parent sees to it.
    parent.children.erase(parent.children.begin() + static_cast<std::ptrdiff_t>(index));
    if (parent.separators.empty()) return;
    const auto separator = index > 0 ? index - 1 : 0;
    parent.separators.erase(parent.separators.begin() + static_cast<std::ptrdiff_t>(separator));
    return;
  }
  std::size_t left = index;
  if (index > 0 && count_at(index - 1) + count_at(index) <= kFanoutMerged) {
    left = index - 1;
  } else if (index + 1 == parent.children.size() ||
             count_at(index) + count_at(index + 1) > kFanoutMerged) {
    return;  // no neighbour with room: stays small
  }
  auto& into = Own(parent.children[left]);
  const auto& from = *parent.children[left + 1];
  if (into.is_leaf()) {
    into.records.insert(into.records.end(), from.records.begin(), from.records.end());
  } else {
    into.separators.push_back(parent.separators[left]);
    into.separators.insert(into.separators.end(), from.separators.begin(), from.separators.end());
    into.children.insert(into.children.end(), from.children.begin(), from.children.end());
  }
  const auto offset = static_cast<std::ptrdiff_t>(left);
  parent.separators.erase(parent.separators.begin() + offset);
  parent.children.erase(parent.children.begin() + offset + 1);
}

void CowTree::Scan(std::string_view from, std::string_view to, const Visit& visit) const {
  if (!to.empty() && from >= to) return;
  VisitRange(*root_, from, to, visit);
}

std::optional<std::pair<std::string_view, std::string_view>> CowTree::Last(
    std::string_view from, std::string_view to) const {
  const auto* found = LastBelow(*root_, to);
  if (found == nullptr || found->key() < from) return std::nullopt;
  return std::make_pair(found->key(), found->value());
}

std::string CowTree::CheckForTest() const {
  std::size_t leaf_depth = 0;
  auto error = CheckNode(*root_, {}, {}, 1, leaf_depth, true);
  if (!error.empty()) return error;
  std::uint64_t counted = 0;
  VisitRange(*root_, {}, {}, [&](std::string_view, std::string_view) { return ++counted, true; });
  return counted == size_ ? "" : "size does not match";
}

}  // namespace filer::engine
