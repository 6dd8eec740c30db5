// reclaim.cc: the end of files that nobody can reach any more, in bounded transactions; what a
// crash interrupts, the next mount ends.
#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/fs/file_data.h"

namespace filer::engine {
namespace {
constexpr std::size_t kExtentsInline = 512;  // bigger files are freed by the background thread
constexpr std::size_t kExtentsPerTransaction = 256;
constexpr std::size_t kXattrsPerTransaction = 256;
constexpr std::uint64_t kBlocksMax = kFileBytesMax / kBlockBytes;

// A node that a key promises: gone, or not to be read.
Error MissingFor(const char* what, const Error& error) {
  return error == Errc::kStaleHandle ? Error(Errc::kCorrupt, what) : error;
}
}  // namespace

// The node is dead: no operation reaches it any more.
Result<Lsn> FileData::Reclaim(const NodePtr& node) {
  const std::lock_guard flush_lock(node->flush_mutex);
  const std::lock_guard lock(node->mutex);
  // Who removed the last name and who let go of the file may both have seen it dead.
  if (node->is_reclaimed) return node->last_lsn;
  DropBlocks(*node, 0, UINT64_MAX);
  node->are_attributes_dirty = false;
  volume_.ForgetDirty(node);
  while (true) {
    const auto extents =
        FILER_TRY(FindExtents(*volume_.store, node->inode, 0, kBlocksMax, kExtentsPerTransaction));
    Transaction transaction;
    Staged staged(*node);
    for (const Extent& extent : extents) {
      staged.record.blocks -= std::min<std::uint64_t>(staged.record.blocks, extent.length);
      transaction.Erase(ExtentKey(node->inode, extent.file_block));
      transaction.Drop(RunOf(extent), extent.birth);
    }
    std::size_t others = 0;
    for (const char letter : {'X', 'P', 'D'}) {
      const std::string from = std::string(InodeKey(node->inode)).replace(0, 1, 1, letter);
      FILER_TRY(volume_.store->Scan(from, EndOfInode(letter, node->inode),
                                    [&](std::string_view key, std::string_view) {
                                      transaction.Erase(std::string(key));
                                      return ++others < kXattrsPerTransaction;
                                    }));
    }
    const bool is_last = extents.size() < kExtentsPerTransaction && others < kXattrsPerTransaction;
    std::unique_lock<std::mutex> changing_acls(volume_.acls.change_mutex(), std::defer_lock);
    if (is_last && node->record.acl != 0) {
      changing_acls.lock();
      FILER_TRY(volume_.acls.Replace(transaction, node->record.acl, Acl{}));
    }
    if (is_last) {
      transaction.Erase(TruncateKey(node->inode));
      transaction.Erase(OrphanKey(node->inode));
      transaction.Erase(InodeKey(node->inode));
      transaction.CountFiles(-1);
      staged.is_gone = true;
    }
    FILER_TRY(volume_.Commit(std::move(transaction), {&staged}));
    if (!is_last) continue;
    node->is_reclaimed = true;
    volume_.nodes.Erase(node->inode);
    volume_.counters.inodes.fetch_sub(1, std::memory_order_relaxed);
    return node->last_lsn;
  }
}

Lsn FileData::ReclaimIfDead(const NodePtr& node) {
  {
    const std::lock_guard lock(node->mutex);
    if (!node->is_dead) return 0;
    const auto extents = FindExtents(*volume_.store, node->inode, 0, kBlocksMax, kExtentsInline);
    if (extents.has_value() && extents.value().size() >= kExtentsInline) {
      const std::lock_guard queue_lock(reclaim_mutex_);
      reclaims_.push_back(node);
      volume_.WakeBackground();
      return 0;
    }
  }
  const auto lsn = Reclaim(node);
  if (lsn.has_value()) return lsn.value();
  FILER_LOG_ERROR("inode {}: not freed: {}; the next mount tries again", node->inode,
                  lsn.error().message());
  return 0;
}

void FileData::ReclaimQueued() {
  while (true) {
    NodePtr node;
    {
      const std::lock_guard lock(reclaim_mutex_);
      if (reclaims_.empty()) return;
      node = std::move(reclaims_.front());
      reclaims_.pop_front();
    }
    const auto lsn = Reclaim(node);
    if (!lsn.has_value()) {
      FILER_LOG_ERROR("inode {}: not freed: {}", node->inode, lsn.error().message());
    }
  }
}

bool FileData::HasQueuedReclaims() const {
  const std::lock_guard lock(reclaim_mutex_);
  return !reclaims_.empty();
}

void FileData::Abandon() {
  for (const NodePtr& node : volume_.nodes.All()) {
    const std::lock_guard lock(node->mutex);
    node->is_dead = node->is_reclaimed = true;
    DropBlocks(*node, 0, UINT64_MAX);
    node->are_attributes_dirty = false;
    volume_.ForgetDirty(node);
    volume_.nodes.Erase(node->inode);
  }
  const std::lock_guard lock(reclaim_mutex_);
  reclaims_.clear();
}

Result<void> FileData::FinishInterrupted() {
  std::vector<std::uint64_t> orphans;
  std::vector<std::uint64_t> truncated;
  const auto collect = [&](char letter, std::vector<std::uint64_t>& into) {
    return volume_.store->Scan(StartOfLetter(letter), EndOfLetter(letter),
                               [&](std::string_view key, std::string_view) {
                                 const auto inode = KeyInteger(key, 0);
                                 if (inode.has_value()) into.push_back(inode.value());
                                 return true;
                               });
  };
  FILER_TRY(collect('O', orphans));
  FILER_TRY(collect('T', truncated));
  for (const std::uint64_t inode : orphans) {
    auto node = volume_.nodes.Get(*volume_.store, inode);
    if (!node.has_value()) return MissingFor("an orphan has no inode", node.error());
    if (node.value()->record.links != 0) return Error(Errc::kCorrupt, "an orphan has links");
    node.value()->is_dead = true;
    FILER_TRY(Reclaim(node.value()));
  }
  for (const std::uint64_t inode : truncated) {
    if (std::find(orphans.begin(), orphans.end(), inode) != orphans.end()) continue;
    const auto node = volume_.nodes.Get(*volume_.store, inode);
    if (!node.has_value()) return MissingFor("a truncation has no inode", node.error());
    const std::lock_guard lock(node.value()->flush_mutex);
    const std::uint64_t first = RoundUp(node.value()->record.size, kBlockBytes) / kBlockBytes;
    FILER_TRY(
        RemoveExtents(node.value(), first, kBlocksMax, Removal::kVolumeOnly,
                      [&](Transaction& transaction) { transaction.Erase(TruncateKey(inode)); }));
  }
  return volume_.Sync(volume_.store->LastLsn());
}

}  // namespace filer::engine
