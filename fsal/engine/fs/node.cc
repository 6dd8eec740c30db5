#include "fsal/engine/fs/node.h"

#include <algorithm>

namespace filer::engine {

NodeLocks::NodeLocks(std::initializer_list<Node*> nodes) {
  std::vector<Node*> sorted(nodes);
  std::sort(sorted.begin(), sorted.end(), [](const Node* left, const Node* right) {
    return (left == nullptr ? 0 : left->inode) < (right == nullptr ? 0 : right->inode);
  });
  Node* last = nullptr;
  for (Node* node : sorted) {
    if (node == nullptr || node == last) continue;
    locks_.emplace_back(node->mutex);
    last = node;
  }
}

Result<NodePtr> NodeCache::Get(const Store& store, std::uint64_t inode) {
  Shard& shard = ShardOf(inode);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.nodes.find(inode);
  if (found != shard.nodes.end()) return found->second;
  auto value = store.Get(InodeKey(inode));
  if (!value.has_value()) {
    if (value.error() == Errc::kNotFound) return Errc::kStaleHandle;
    return std::move(value).error();
  }
  InodeRecord record = FILER_TRY(DecodeInode(value.value()));
  auto node = std::make_shared<Node>(inode, record.kind);
  node->record = std::move(record);
  node->stable_size = node->record.size;
  if (shard.nodes.size() >= nodes_max_per_shard_) EvictSome(shard);
  shard.nodes.emplace(inode, node);
  return node;
}

void NodeCache::Erase(std::uint64_t inode) {
  Shard& shard = ShardOf(inode);
  const std::lock_guard lock(shard.mutex);
  shard.nodes.erase(inode);
}

std::vector<NodePtr> NodeCache::All() const {
  std::vector<NodePtr> all;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    for (const auto& [inode, node] : shard.nodes) all.push_back(node);
  }
  return all;
}

// Looks at a few nodes, going round. use_count 1 means that only this map has it, and nobody can
// get it without our lock.
void NodeCache::EvictSome(Shard& shard) {
  for (int step = 0; step < 32 && !shard.nodes.empty(); ++step) {
    auto at = shard.nodes.lower_bound(shard.hand);
    if (at == shard.nodes.end()) at = shard.nodes.begin();
    shard.hand = at->first + 1;
    Node& node = *at->second;
    const bool is_idle = at->second.use_count() == 1 && node.mutex.try_lock();
    if (!is_idle) continue;
    const bool may_go = node.holds == 0 && node.blocks.empty() && !node.are_attributes_dirty &&
                        !node.is_dead && node.hidden_from_block == UINT64_MAX;
    node.mutex.unlock();
    if (may_go) shard.nodes.erase(at);
  }
}

}  // namespace filer::engine
