#include "fsal/engine/fs/volume.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/units.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kInodesReservedAhead = 4096;
constexpr std::size_t kNodesInMemory = 200'000;
constexpr unsigned kChangeEpochShift = 40;  // 2^40 changes per mount and inode, 2^24 mounts
constexpr unsigned kCookieEpochShift = 36;  // stays below 2^63 for 2^27 mounts
thread_local std::uint32_t current_door = 0;

}  // namespace

void SetDoor(std::uint32_t door) noexcept { current_door = door; }
std::uint32_t CurrentDoor() noexcept { return current_door; }

Volume::Volume(BlockDevice& device_in, const Clock& clock_in, const MountOptions& options_in,
               std::unique_ptr<Store> store_in)
    : device(device_in),
      clock(clock_in),
      options(options_in),
      store(std::move(store_in)),
      geometry(store->Geometry()),
      epoch(store->MountEpoch()),
      allocator(geometry.data_first_block, geometry.data_block_count),
      nodes(kNodesInMemory) {
  const std::vector<std::uint8_t> secret = store->HandleKey();
  std::copy_n(secret.begin(), std::min(secret.size(), key.size()), key.begin());
}

Result<NodePtr> Volume::GetNode(NodeId id) {
  if (id.fileset != kRootFileset || id.snapshot != 0 || id.inode == 0) return Errc::kStaleHandle;
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
  attributes.fsid = Fsid();
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
  const auto health = store->Health();
  if (!health.has_value()) return Error(Errc::kReadOnly, health.error().message());
  return Ok();
}

Result<Lsn> Volume::Commit(Transaction transaction, std::initializer_list<Staged*> staged) {
  for (const Staged* change : staged) {
    if (change == nullptr) continue;
    InodeRecord record = change->record;
    if (record.kind == NodeKind::kFile) record.size = change->stable_size;
    transaction.Put(InodeKey(change->node->inode), EncodeInode(record));
  }
  std::vector<BlockRun> freed;
  const Lsn lsn = FILER_TRY(store->Commit(std::move(transaction), &freed));
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

Result<void> Volume::Sync(Lsn lsn) {
  FILER_TRY(store->Sync(lsn));
  if (allocator.HasPending()) allocator.ReleaseDurable(store->DurableLsn());
  return Ok();
}

Result<void> Volume::FlushDevice() {
  if (!device.Info().has_volatile_cache) return Ok();
  std::unique_lock lock(flush_mutex_);
  const std::uint64_t wanted = flushes_started_ + 1;
  while (flushes_done_ < wanted) {
    if (is_flushing_) {
      flush_done_.wait(lock);
      continue;
    }
    is_flushing_ = true;
    const std::uint64_t number = ++flushes_started_;
    lock.unlock();
    const Result<void> flushed = FlushBlocking(device);
    counters.data_flushes.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
    is_flushing_ = false;
    flushes_done_ = number;
    if (!flushed.has_value()) failed_flush_ = number;
    flush_done_.notify_all();
    if (!flushed.has_value()) return flushed.error();
  }
  if (failed_flush_ >= wanted) return Errc::kIo;
  return Ok();
}

Result<std::uint64_t> Volume::NewInode() {
  const std::lock_guard lock(inode_mutex_);
  if (next_inode_ == 0) {
    const auto value = store->Get(CounterKey(kInodeCounter));
    if (!value.has_value()) return Error(Errc::kCorrupt, "the counter of inode numbers is gone");
    next_inode_ = inode_limit_ = FILER_TRY(DecodeCounter(value.value()));
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

Result<void> Volume::ReserveBlocks(std::uint64_t count, bool is_privileged) {
  auto reserved = allocator.Reserve(count, is_privileged);
  if (reserved.has_value() || !allocator.HasPending()) return reserved;
  FILER_TRY(Sync(store->LastLsn()));
  return allocator.Reserve(count, is_privileged);
}

void Volume::NotifyChange(std::initializer_list<Engine::Change> changes) const {
  if (listener_count.load(std::memory_order_acquire) == 0) return;
  decltype(listeners) called;
  {
    const std::lock_guard lock(listener_mutex);
    called = listeners;
  }
  const std::uint32_t by_door = current_door;
  for (std::uint32_t door = 0; door < called.size(); ++door) {
    if (called[door] == nullptr || door == by_door) continue;
    try {
      for (const Engine::Change& change : changes) {
        if (change.node.inode != 0) (*called[door])(change);
      }
    } catch (const std::exception& exception) {
      // The change is made and stays made, whether or not a cache could be told.
      FILER_LOG_WARN("a change was not announced to door {}: {}", door, exception.what());
    }
  }
  current_door = by_door;  // a listener may have worked for its own
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

void Volume::WakeBackground() {
  if (has_background_work.exchange(true)) return;
  const std::lock_guard lock(background_mutex);
  background_wake.notify_all();
}

WriteVerifier Volume::Verifier() const {
  std::array<std::uint8_t, 16> seed{};
  const std::uint64_t salt = verifier_salt_.load();
  std::memcpy(seed.data(), &epoch, 8);
  std::memcpy(seed.data() + 8, &salt, 8);
  const std::uint64_t hash = SipHash24(key, seed);
  WriteVerifier verifier;
  std::memcpy(verifier.data(), &hash, 8);
  return verifier;
}

void Volume::ChangeVerifier() { verifier_salt_.fetch_add(1); }

std::uint64_t Volume::Fsid() const {
  std::uint64_t fsid;
  std::memcpy(&fsid, geometry.volume_uuid, 8);
  return fsid ^ kRootFileset;
}

}  // namespace filer::engine
