// quota_data.cc: promises to unstable writes against quotas. A dirty block that is new to its file
// counts from the write on, for the kinds that had an account then (CachedBlock::quota_kinds),
// until the commit that gives it a place counts it for good. Without limits there is nothing to do.
#include <algorithm>

#include "fsal/engine/fs/file_data.h"

namespace filer::engine {
namespace {

void Count(std::uint8_t kinds, QuotaCounts& counts) {
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) counts[kind] += kinds >> kind & 1U;
}

// Calls `visit` for each dirty block of [first, end) for which something is promised.
template <typename Blocks, typename Visit>
void EachPromised(const std::set<std::uint64_t>& dirty, Blocks& blocks, std::uint64_t first,
                  std::uint64_t end, const Visit& visit) {
  for (auto at = dirty.lower_bound(first); at != dirty.end() && *at < end; ++at) {
    auto& block = blocks.at(*at);
    if (block.quota_kinds != 0) visit(block);
  }
}

}  // namespace

Result<void> FileData::PromiseBlocks(const Node& node, std::uint64_t first,
                                     std::span<CachedBlock> blocks, QuotaRule rule) {
  const std::uint8_t wanted = volume_.quotas.KindsWithAccount(node.record);
  if (wanted == 0) return Ok();  // then nothing was promised before, either
  const std::uint64_t end = first + blocks.size();
  const std::uint64_t mapped_end = std::min(end, node.hidden_from_block);
  std::vector<Extent> extents;
  if (first < mapped_end) {
    extents = FILER_TRY(FindExtents(*volume_.store, node.inode, first, mapped_end));
  }
  auto extent = extents.begin();
  QuotaCounts needed{};
  for (std::uint64_t block = first; block < end; ++block) {
    while (extent != extents.end() && extent->end() <= block) ++extent;
    const bool is_mapped =
        extent != extents.end() && extent->file_block <= block && block < mapped_end;
    const auto cached = node.blocks.find(block);
    const std::uint8_t has = cached == node.blocks.end() ? 0 : cached->second.quota_kinds;
    const auto asks = static_cast<std::uint8_t>(is_mapped ? 0 : wanted & ~has);
    Count(asks, needed);
    blocks[block - first].quota_kinds = has | asks;
  }
  return volume_.quotas.Reserve(node.record, needed, rule);
}

void FileData::CountPromises(const Node& node, std::uint64_t first, std::uint64_t end,
                             QuotaCounts& counts) const {
  if (!volume_.quotas.HasAccounts()) return;
  EachPromised(node.dirty, node.blocks, first, end,
               [&](const CachedBlock& block) { Count(block.quota_kinds, counts); });
}

void FileData::ForgetPromises(Node& node, std::uint64_t first, std::uint64_t end) {
  if (!volume_.quotas.HasAccounts()) return;
  EachPromised(node.dirty, node.blocks, first, end,
               [](CachedBlock& block) { block.quota_kinds = 0; });
}

void FileData::ReturnPromise(const Node& node, CachedBlock& block) {
  if (block.quota_kinds == 0) return;
  QuotaCounts counts{};
  Count(block.quota_kinds, counts);
  block.quota_kinds = 0;
  volume_.quotas.Unreserve(node.record, counts);
}

void FileData::ReturnPromises(Node& node) {
  if (!volume_.quotas.HasAccounts()) return;
  EachPromised(node.dirty, node.blocks, 0, UINT64_MAX,
               [&](CachedBlock& block) { ReturnPromise(node, block); });
}

Result<void> FileData::SettlePromises(const NodePtr& node) {
  if (!volume_.quotas.HasAccounts() || node->kind != NodeKind::kFile) return Ok();
  return WriteBack(node, 0, UINT64_MAX);
}

}  // namespace filer::engine
