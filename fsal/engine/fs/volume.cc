#include "fsal/engine/fs/volume.h"

#include "fsal/engine/format/tree_table.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "base/units.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kInodesReservedAhead = 4096;
constexpr unsigned kChangeEpochShift = 40;  // 2^40 changes per mount and inode, 2^24 mounts
constexpr unsigned kCookieEpochShift = 36;  // stays below 2^63 for 2^27 mounts
// A fileset that was rolled back numbers its inodes anew, above all that it had given out.
constexpr unsigned kInodeTreeShift = 40;

MountOptions OptionsOf(MountOptions options, const TreeRecord& record) {
  if (record.kind == TreeKind::kSnapshot) options.read_only = true;
  return options;
}

}  // namespace

Volume::Volume(SharedVolume& shared_in, const TreeRecord& record, std::unique_ptr<Store> view,
               std::size_t nodes_max)
    : shared(shared_in),
      fileset(record.fileset),
      snapshot(record.kind == TreeKind::kSnapshot ? record.id : 0),
      device(shared.device),
      clock(shared.clock),
      options(OptionsOf(shared.options, record)),
      store(std::move(view)),
      geometry(shared.geometry),
      epoch(shared.store->MountEpoch()),
      key(shared.key),
      allocator(shared.allocator),
      nodes(nodes_max),
      quotas(clock),
      counters(shared.counters),
      next_stamp(shared.next_stamp),
      first_inode_(record.id == record.fileset || snapshot != 0
                       ? 0
                       : std::uint64_t{record.id} << kInodeTreeShift) {}

Result<NodePtr> Volume::GetNode(NodeId id) {
  if (id.fileset != fileset || id.snapshot != snapshot || id.inode == 0) return Errc::kStaleHandle;
  return nodes.Get(*store, id.inode);
}

Attributes Volume::AttributesOf(const Node& node) const {
  const InodeRecord& record = node.record;
  Attributes attributes;
  attributes.id = IdOf(node);
  attributes.generation = record.generation;
  attributes.kind = record.kind;
  attributes.mode = record.mode;
  attributes.uid = record.uid;
  attributes.gid = record.gid;
  attributes.links = record.links;
  attributes.size_bytes = record.size;
  if (record.kind == NodeKind::kDirectory) attributes.size_bytes = kBlockBytes;
  if (record.kind == NodeKind::kSymlink) attributes.size_bytes = record.symlink.size();
  // Promised blocks count, but a block that is only rewritten is not counted twice.
  const std::uint64_t size_blocks = RoundUp(record.size, kBlockBytes) / kBlockBytes;
  const std::uint64_t blocks =
      std::max(record.blocks, std::min(record.blocks + node.dirty.size(), size_blocks));
  attributes.used_bytes = blocks * kBlockBytes;
  attributes.device_major = record.device_major;
  attributes.device_minor = record.device_minor;
  attributes.atime_ns = record.atime_ns;
  attributes.mtime_ns = record.mtime_ns;
  attributes.ctime_ns = record.ctime_ns;
  attributes.btime_ns = record.btime_ns;
  attributes.change = record.change;
  attributes.acl = AclKindOf(record.acl);
  attributes.fsid = Fsid();
  attributes.project = record.project;
  attributes.inherits_project = record.inherits_project;
  return attributes;
}

std::uint64_t Volume::NextChange(std::uint64_t change) const {
  return std::max(change + 1, epoch << kChangeEpochShift);
}

// With the epoch inside, a cookie that a crash took back is never issued for another entry.
std::uint64_t Volume::NextCookie(InodeRecord& directory) const {
  const std::uint64_t cookie = std::max(directory.next_cookie, (epoch << kCookieEpochShift) | 3);
  directory.next_cookie = cookie + 1;
  return cookie;
}

void Volume::TouchChange(InodeRecord& record) const {
  record.ctime_ns = NowNs();
  record.change = NextChange(record.change);
}

void Volume::TouchContent(InodeRecord& record) const {
  TouchChange(record);
  record.mtime_ns = record.ctime_ns;
}

Result<void> Volume::CheckWritable() const {
  if (options.read_only) return Errc::kReadOnly;
  if (is_retired.load(std::memory_order_acquire)) return Errc::kBusy;  // what comes next is not
  const auto health = store->Health();
  if (!health.has_value()) return Error(Errc::kReadOnly, health.error().message());
  return Ok();
}

Result<Lsn> Volume::Commit(Transaction transaction, std::initializer_list<Staged*> staged) {
  QuotaCharge charge;
  std::unique_lock<std::mutex> changing_acls(acls.change_mutex(), std::defer_lock);
  for (Staged* change : staged) {
    if (change == nullptr) continue;
    if (change->acl.has_value()) {
      FILER_ASSERT(!changing_acls.owns_lock());  // counts are read as they were before
      changing_acls.lock();
      change->record.acl = FILER_TRY(acls.Replace(transaction, change->record.acl, *change->acl));
    }
    charge.Collect(*change);
    if (change->is_gone) continue;
    InodeRecord record = change->record;
    if (record.kind == NodeKind::kFile) record.size = change->stable_size;
    transaction.Put(InodeKey(change->node->inode), EncodeInode(record));
  }
  std::shared_lock<std::shared_mutex> inside;
  if (!charge.empty()) {
    inside = quotas.EnterCommit();
    FILER_TRY(quotas.Apply(charge, transaction));
  }
  std::vector<BlockRun> freed;
  const auto committed = store->Commit(std::move(transaction), &freed);
  if (!committed.has_value()) {
    quotas.Revert(charge);
    return committed.error();
  }
  if (inside.owns_lock()) inside.unlock();
  const Lsn lsn = committed.value();
  for (const BlockRun& run : freed) allocator.FreeAfter(lsn, run);
  for (Staged* change : staged) {
    if (change == nullptr) continue;
    change->node->record = std::move(change->record);
    change->node->stable_size = change->stable_size;
    change->node->are_attributes_dirty = false;
    change->node->last_lsn = lsn;
  }
  counters.metadata_changes.fetch_add(1, std::memory_order_relaxed);
  WakeBackground();
  return lsn;
}

Result<std::uint64_t> Volume::NewInode() {
  const std::lock_guard lock(inode_mutex_);
  if (next_inode_ == 0) {
    const auto value = store->Get(CounterKey(kInodeCounter));
    if (!value.has_value()) {
      if (!(value.error() == Errc::kNotFound)) return value.error();
      return Error(Errc::kCorrupt, "the counter of inode numbers is gone");
    }
    next_inode_ = inode_limit_ = std::max(FILER_TRY(DecodeCounter(value.value())), first_inode_);
  }
  if (next_inode_ == inode_limit_) {
    Transaction transaction;
    transaction.Put(CounterKey(kInodeCounter), EncodeCounter(inode_limit_ + kInodesReservedAhead));
    // Durable before the first number of the batch is seen by anybody.
    FILER_TRY(store->Sync(FILER_TRY(store->Commit(std::move(transaction)))));
    inode_limit_ += kInodesReservedAhead;
  }
  return next_inode_++;
}

void Volume::MarkDirty(const NodePtr& node) {
  {
    const std::lock_guard lock(dirty_mutex_);
    const auto [at, is_new] = dirty_nodes_.emplace(node->inode, node);
    if (is_new) node->dirty_since_ns = clock.MonotonicNs();
  }
  WakeBackground();
}

std::vector<NodePtr> Volume::DirtyNodes() const {
  const std::lock_guard lock(dirty_mutex_);
  std::vector<NodePtr> all;
  all.reserve(dirty_nodes_.size());
  for (const auto& [inode, node] : dirty_nodes_) all.push_back(node);
  return all;
}

void Volume::ForgetDirty(const NodePtr& node) {
  if (!node->dirty.empty() || node->are_attributes_dirty) {
    node->dirty_since_ns = clock.MonotonicNs();
    return;
  }
  const std::lock_guard lock(dirty_mutex_);
  dirty_nodes_.erase(node->inode);
}

bool Volume::HasDirtyNodes() const {
  const std::lock_guard lock(dirty_mutex_);
  return !dirty_nodes_.empty();
}

std::uint64_t Volume::Fsid() const { return VolumeFsid(geometry, fileset, snapshot); }

}  // namespace filer::engine
