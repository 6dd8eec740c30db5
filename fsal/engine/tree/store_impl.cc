#include "fsal/engine/tree/store_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"

namespace filer::engine {

static_assert(kKeyBytesMax == kRecordKeyBytesMax && kValueBytesMax == kRecordValueBytesMax);
static_assert(kKeyBytesMax == kNodeKeyBytesMax && kValueBytesMax == kNodeValueBytesMax);

namespace {

// Share of the node region that only transactions which erase something or add nothing may use, so
// that a full volume can be emptied; half of it is left to those that add nothing.
constexpr std::uint64_t kReserveDivisor = 64;
constexpr std::uint64_t kReserveUnitsLeast = 128;
// Of the cache, dirty: the nodes of the open epoch ask for a checkpoint here, and wait for it at
// twice as many, so that clean ones have room beside them.
constexpr std::uint64_t kDirtyDivisor = 4;
constexpr std::uint64_t kCachePagesLeast = 16;
constexpr std::size_t kHeldPagesMax = 64;  // by one reading call
constexpr std::size_t kPagesPerThaw = 64;  // in one hold of the lock
constexpr int kCheckpointsForSpace = 3;    // after two, all that was freed before is free
constexpr std::uint64_t kCheckpointLogDivisor =
    4;  // a quarter of the log in use asks for a checkpoint

Result<std::string> Encode(const Transaction& transaction) {
  std::string record(sizeof(TransactionHeader), '\0');
  for (const auto& change : transaction.changes()) {
    if (change.key.empty()) return Error(Errc::kInvalidArgument, "commit: empty key");
    if (change.key.size() > kKeyBytesMax ||
        (change.value && change.value->size() > kValueBytesMax)) {
      return Error(Errc::kTooBig, "commit: a key or value is longer than allowed");
    }
    AppendPair(record, change.key, change.value);
    if (record.size() > kGroupPayloadBytesMax) {
      return Error(Errc::kTooBig, "commit: the transaction is larger than a log group");
    }
  }
  TransactionHeader header{};
  header.change_count = static_cast<std::uint32_t>(transaction.changes().size());
  header.pair_bytes = static_cast<std::uint32_t>(record.size() - sizeof(header));
  std::memcpy(record.data(), &header, sizeof(header));
  return record;
}

std::uint64_t PagesOf(const StoreOpenOptions& options) {
  return std::max(kCachePagesLeast, options.cache_bytes / kNodeBytes);
}

std::vector<TreeChange> ChangesOf(const Transaction& transaction) {
  std::vector<TreeChange> changes;
  changes.reserve(transaction.changes().size());
  for (const auto& change : transaction.changes()) {
    changes.push_back(
        {change.key, change.value ? std::optional<std::string_view>(*change.value) : std::nullopt});
  }
  return changes;
}

}  // namespace

// The nodes that one call has read and still needs: the cache must not push one out for the next.
class StoreImpl::Held {
 public:
  explicit Held(std::size_t count_max = SIZE_MAX) : count_max_(count_max) {}

  void Add(PageRef page) {
    if (pages_.size() == count_max_) pages_.erase(pages_.begin());
    pages_.push_back(std::move(page));
  }
  // Whether a node could not be read soundly twice through the same pointer. Once, it may have been
  // freed and written anew in between; then the tree leads elsewhere by now.
  bool IsSecondFailure(const NodePointer& pointer) {
    if (std::find(failed_.begin(), failed_.end(), pointer) != failed_.end()) return true;
    failed_.push_back(pointer);
    return false;
  }

 private:
  const std::size_t count_max_;
  std::vector<PageRef> pages_;
  std::vector<NodePointer> failed_;
};

StoreImpl::StoreImpl(BlockDevice& device, const Clock& clock, const Label& label,
                     const StoreOpenOptions& options)
    : device_(device),
      clock_(clock),
      label_(label),
      layout_(LayoutOf(label)),
      uuid_(ToUuid(label.volume_uuid)),
      dirty_count_max_(PagesOf(options) / kDirtyDivisor),
      reader_(device, layout_, uuid_),
      cache_(PagesOf(options)),
      space_(layout_.node_first_block, layout_.node_block_count / kNodeBlocks),
      tree_(uuid_, cache_, space_) {}

Result<std::unique_ptr<Store>> StoreImpl::Open(BlockDevice& device, const Clock& clock,
                                               const StoreOpenOptions& options) {
  const bool read_only = options.read_only;
  const auto loaded = FILER_TRY(LoadLabel(device));
  if (!read_only && loaded.label.ro_compat != 0) {
    return Error(
        Errc::kNewerVersion,
        fmt::format("label: features {:#x} of a newer release: this one may only read the volume",
                    loaded.label.ro_compat.value()));
  }
  if (!read_only && device.Info().is_read_only) {
    return Error(Errc::kReadOnly, "open: the device is read-only");
  }
  std::unique_ptr<StoreImpl> store(new StoreImpl(device, clock, loaded.label, options));
  FILER_TRY(store->Recover());
  if (!read_only) {
    if (loaded.is_first_damaged || loaded.is_copy_damaged) {
      FILER_LOG_WARN("volume {}: one of the two labels is damaged, writing it anew",
                     store->VolumeName());
      FILER_TRY(WriteLabel(device, loaded.label, loaded.is_first_damaged, loaded.is_copy_damaged));
    }
    FILER_TRY(store->StartMount());
  }
  return std::unique_ptr<Store>(std::move(store));
}

Result<void> StoreImpl::Recover() {
  root_ = FILER_TRY(LoadUberblock(device_, layout_, uuid_));
  FILER_TRY(reader_.Start());
  const TreeRoot tree_root{root_.root,       root_.root_level, root_.tree_epoch,
                           root_.node_count, root_.key_count,  root_.key_bytes};
  FILER_TRY(WalkTree(reader_, tree_root, cache_, space_));
  tree_.Start(tree_root);
  GroupPlace head;
  head.uuid = uuid_;
  head.log_epoch = root_.log_epoch;
  head.position = root_.log_head_position;
  head.first_lsn = root_.checkpoint_lsn + 1;
  head.prev_crc32c = root_.log_head_prev_crc32c;
  const LogRing ring{layout_.log_first_block, layout_.log_block_count};
  const auto end = FILER_TRY(
      ReplayLog(device_, ring, head, [this](const GroupHeader& header, std::string_view payload) {
        return ApplyGroup(header, payload);
      }));
  recovered_groups_ = end.group_count;
  recovered_lsn_ = end.next.first_lsn - 1;
  mount_epoch_ = root_.mount_epoch;
  return Ok();
}

Result<void> StoreImpl::ApplyGroup(const GroupHeader& header, std::string_view payload) {
  for (std::uint64_t lsn = header.first_lsn; lsn <= header.last_lsn; ++lsn) {
    const auto applied = ApplyTransaction(payload);
    if (!applied.has_value()) {
      return Error(Errc::kCorrupt,
                   fmt::format("log transaction {}: {}", lsn, applied.error().message()));
    }
  }
  if (!payload.empty()) {
    return Error(Errc::kCorrupt, fmt::format("log group {}: more bytes than transactions",
                                             header.first_lsn.value()));
  }
  return Ok();
}

Result<void> StoreImpl::ApplyTransaction(std::string_view& payload) {
  auto view = FILER_TRY(TakeTransaction(payload));
  std::vector<TreeChange> changes;
  for (std::uint32_t change = 0; change < view.change_count; ++change) {
    const auto pair = FILER_TRY(TakePair(view.pairs));
    if (!pair) return Error(Errc::kCorrupt, "a change is cut short");
    changes.push_back({pair->key, pair->value});
  }
  if (!view.pairs.empty()) return Error(Errc::kCorrupt, "more bytes than changes");
  Held held;
  for (;;) {
    NodeTree::Needs needs;
    Misses misses;
    if (tree_.Prepare(changes, needs, misses) == NodeTree::Step::kDone) {
      if (needs.unit_count > space_.free_count()) {
        return Error(Errc::kCorrupt, "it does not fit the node region");
      }
      tree_.Apply(changes);
      cache_.Trim();
      return Ok();
    }
    FILER_TRY(Load(misses, held));
  }
}

// A new log epoch, durable before anybody is served: what the log held is in a checkpoint then, and
// its groups are stale.
Result<void> StoreImpl::StartMount() {
  // What was read may be in the device's cache only, if it was the process that died. The nodes
  // that the checkpoint before needs are overwritten from here on: nothing may lead back to it.
  FILER_TRY(FlushIfCached(device_));
  buffers_ = FILER_TRY(AllocateRunBuffers(device_));
  auto root = root_;
  root.epoch += 1;
  root.mount_epoch += 1;
  root.log_epoch = MixLogEpoch(uuid_, root.mount_epoch, clock_.RealtimeNs());
  root.log_head_position = 0;
  root.log_head_prev_crc32c = 0;
  root.is_clean = 0;
  if (recovered_groups_ > 0) {
    root.checkpoint_lsn = recovered_lsn_;
    const auto frozen = tree_.Freeze();
    const auto sealed = FILER_TRY(WriteFrozen(frozen, root));
    FILER_TRY(WriteUberblock(device_, layout_, root, buffers_[0]));
    Thaw(frozen, sealed);
  } else {
    FILER_TRY(WriteUberblock(device_, layout_, root, buffers_[0]));
  }
  root_ = root;
  mount_epoch_ = root.mount_epoch;
  GroupPlace head;
  head.uuid = uuid_;
  head.log_epoch = root.log_epoch;
  head.first_lsn = recovered_lsn_ + 1;
  log_ = FILER_TRY(
      LogWriter::Create(device_, {layout_.log_first_block, layout_.log_block_count}, head));
  return Ok();
}

// Writes what changed since the checkpoint before, and points `root` there. Durable on return.
Result<SealedNodes> StoreImpl::WriteFrozen(const NodeTree::Frozen& frozen, Uberblock& root) {
  const auto started_ns = clock_.MonotonicNs();
  auto sealed = FILER_TRY(WriteNodes(device_, frozen.pages, buffers_));
  FILER_TRY(FlushIfCached(device_));
  root.tree_epoch = frozen.root.epoch;
  root.root = frozen.root.pointer;
  const auto is_written = sealed.find(root.root.block);
  if (is_written != sealed.end()) root.root.crc32c = is_written->second;
  root.root_level = frozen.root.level;
  root.node_count = frozen.root.node_count;
  root.key_count = frozen.root.key_count;
  root.key_bytes = frozen.root.key_bytes;
  written_count_.fetch_add(frozen.pages.size(), std::memory_order_relaxed);
  checkpoint_count_.fetch_add(1, std::memory_order_relaxed);
  checkpoint_ns_.fetch_add(static_cast<std::uint64_t>(clock_.MonotonicNs() - started_ns),
                           std::memory_order_relaxed);
  return sealed;
}

// The checkpoint is durable: its nodes are clean, and what earlier ones alone needed is free.
void StoreImpl::Thaw(const NodeTree::Frozen& frozen, const SealedNodes& sealed) {
  const std::span<const PageRef> pages(frozen.pages);
  const auto in_parts = [&](const auto& call) {
    for (std::size_t at = 0; at < pages.size(); at += kPagesPerThaw) {
      const std::unique_lock lock(map_mutex_);
      call(pages.subspan(at, std::min(kPagesPerThaw, pages.size() - at)));
    }
  };
  in_parts([&](std::span<const PageRef> part) { tree_.SetChecksums(part, sealed); });
  {
    const std::unique_lock lock(map_mutex_);
    tree_.SetOpenChecksums(frozen.root.epoch, sealed);
    space_.Release(frozen.root.epoch);
  }
  in_parts([&](std::span<const PageRef> part) { tree_.SetClean(part); });
  const std::unique_lock lock(map_mutex_);
  dirty_count_.store(tree_.dirty_count(), std::memory_order_relaxed);
}

Result<void> StoreImpl::RunCheckpoint(Reason reason) {
  FILER_TRY(log_->Health());
  std::unique_lock lock(map_mutex_);
  const auto cut = log_->Cut();
  const bool has_tree = cut.lsn != root_.checkpoint_lsn || reason == Reason::kSpace;
  if (!has_tree && reason != Reason::kClose) return Ok();
  NodeTree::Frozen frozen;
  if (has_tree) frozen = tree_.Freeze();
  lock.unlock();

  // The log up to the cut must be written before its place is given away.
  FILER_TRY(log_->Sync(cut.lsn));
  auto root = root_;
  root.epoch += 1;
  root.checkpoint_lsn = cut.lsn;
  root.log_head_position = cut.position;
  root.log_head_prev_crc32c = cut.prev_crc32c;
  root.is_clean = reason == Reason::kClose ? 1 : 0;
  SealedNodes sealed;
  const auto write = [&]() -> Result<void> {
    if (has_tree) sealed = FILER_TRY(WriteFrozen(frozen, root));
    return WriteUberblock(device_, layout_, root, buffers_[0]);
  };
  const auto written = write();
  if (!written.has_value()) {
    const Error error(Errc::kIo, "checkpoint: " + written.error().message());
    log_->Fail(error);
    return error;
  }
  root_ = root;
  if (has_tree) Thaw(frozen, sealed);
  log_->Trim(cut.position);
  return Ok();
}

Result<void> StoreImpl::Checkpoint() {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kChanged);
}

Result<void> StoreImpl::Close() {
  if (log_ == nullptr) return Ok();
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kClose);
}

bool StoreImpl::HasSpaceFor(const NodeTree::Needs& needs) const {
  const auto reserve = std::max(kReserveUnitsLeast, space_.unit_count() / kReserveDivisor);
  auto held_back = needs.is_growing ? reserve : 0;
  if (needs.has_erase) held_back /= 2;
  return needs.unit_count + held_back <= space_.free_count();
}

Result<Lsn> StoreImpl::Commit(Transaction transaction) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  if (transaction.empty()) return log_->LastLsn();
  const auto record = FILER_TRY(Encode(transaction));
  const auto changes = ChangesOf(transaction);
  Held held;
  for (int checkpoints = 0;;) {
    FILER_TRY(log_->Health());
    std::unique_lock lock(map_mutex_);
    NodeTree::Needs needs;
    Misses misses;
    if (tree_.Prepare(changes, needs, misses) == NodeTree::Step::kMiss) {
      lock.unlock();
      FILER_TRY(Load(misses, held));
      continue;
    }
    if (!HasSpaceFor(needs)) {
      const bool is_hopeless = space_.pending_count() == 0 || checkpoints++ == kCheckpointsForSpace;
      lock.unlock();
      if (is_hopeless) {
        return Error(Errc::kNoSpace,
                     "metadata: the node region is full; delete files or use a larger volume");
      }
      FILER_TRY(MakeNodeRoom());
      continue;
    }
    const auto lsn = log_->TryAppend(record);
    if (!lsn) {
      lock.unlock();
      FILER_TRY(MakeLogRoom(record.size()));
      continue;
    }
    tree_.Apply(changes);
    cache_.Trim();
    ++commit_count_;
    dirty_count_.store(tree_.dirty_count(), std::memory_order_relaxed);
    lock.unlock();
    LimitDirty();
    FILER_TRY(log_->LimitBacklog());
    return *lsn;
  }
}

// Many dirty nodes: somebody writes them. Twice as many: everybody waits for it. A failure is the
// next commit's to tell: this one is made.
void StoreImpl::LimitDirty() {
  if (dirty_count_.load(std::memory_order_relaxed) <= dirty_count_max_) return;
  if (!checkpoint_mutex_.try_lock()) {
    if (dirty_count_.load(std::memory_order_relaxed) <= 2 * dirty_count_max_) return;
    checkpoint_mutex_.lock();
  }
  Result<void> checkpoint = Ok();
  if (dirty_count_.load(std::memory_order_relaxed) > dirty_count_max_) {
    checkpoint = RunCheckpoint(Reason::kChanged);
  }
  checkpoint_mutex_.unlock();
  if (!checkpoint.has_value()) FILER_LOG_ERROR("{}", checkpoint.error().message());
}

// One step of the way on which freed nodes become free.
Result<void> StoreImpl::MakeNodeRoom() {
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(Reason::kSpace);
}

Result<void> StoreImpl::MakeLogRoom(std::size_t record_bytes) {
  MutexLock lock(checkpoint_mutex_);
  if (log_->HasRoom(record_bytes)) return Ok();  // another thread's checkpoint has made it
  return RunCheckpoint(Reason::kChanged);
}

Result<void> StoreImpl::Sync(Lsn lsn) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  FILER_TRY(log_->Sync(lsn));
  if (log_->UsedBytes() <= layout_.log_block_count * kMetaBlockBytes / kCheckpointLogDivisor) {
    return Ok();
  }
  if (!checkpoint_mutex_.try_lock()) return Ok();  // somebody is at it
  // Its failure is the next commit's to tell: what this caller asked for is durable.
  const auto checkpoint = RunCheckpoint(Reason::kChanged);
  checkpoint_mutex_.unlock();
  if (!checkpoint.has_value()) FILER_LOG_ERROR("{}", checkpoint.error().message());
  return Ok();
}

Lsn StoreImpl::LastLsn() const { return log_ == nullptr ? recovered_lsn_ : log_->LastLsn(); }

Lsn StoreImpl::DurableLsn() const { return log_ == nullptr ? recovered_lsn_ : log_->DurableLsn(); }

Result<void> StoreImpl::Load(const Misses& misses, Held& held) const {
  std::vector<PageRef> pages;
  for (const auto& miss : misses) {
    auto page = reader_.Read(miss.pointer, miss.level);
    if (page.has_value()) {
      pages.push_back(std::move(page).value());
    } else if (page.error() != Errc::kCorrupt || held.IsSecondFailure(miss.pointer)) {
      return page.error();
    }
  }
  read_count_.fetch_add(misses.size(), std::memory_order_relaxed);
  const std::unique_lock lock(map_mutex_);
  for (auto& page : pages) held.Add(cache_.AddRead(std::move(page)));
  return Ok();
}

// Runs `attempt` under the shared lock until it misses nothing. False: what it looked for is not
// there.
template <typename Attempt>
Result<bool> StoreImpl::Read(Attempt attempt) const {
  std::optional<Held> held;
  for (;;) {
    Misses misses;
    {
      const std::shared_lock lock(map_mutex_);
      const auto step = attempt(misses);
      if (step == NodeTree::Step::kDamaged) {
        return Error(Errc::kCorrupt, "metadata: the pieces of a value do not make up its length");
      }
      if (step != NodeTree::Step::kMiss) return step == NodeTree::Step::kDone;
    }
    if (!held) held.emplace(kHeldPagesMax);
    FILER_TRY(Load(misses, *held));
  }
}

Result<std::string> StoreImpl::Get(std::string_view key) const {
  std::string value;
  const bool is_there =
      FILER_TRY(Read([&](Misses& misses) { return tree_.Find(key, value, misses); }));
  if (!is_there) return Error(Errc::kNotFound);
  return value;
}

Result<void> StoreImpl::Scan(
    std::string_view from, std::string_view to,
    const std::function<bool(std::string_view key, std::string_view value)>& visit) const {
  std::string next(from);
  FILER_TRY(Read([&](Misses& misses) { return tree_.Scan(next, to, visit, misses); }));
  return Ok();
}

Result<std::pair<std::string, std::string>> StoreImpl::Last(std::string_view from,
                                                            std::string_view to) const {
  std::pair<std::string, std::string> found;
  const bool is_there =
      FILER_TRY(Read([&](Misses& misses) { return tree_.Last(from, to, found, misses); }));
  if (!is_there) return Error(Errc::kNotFound);
  return found;
}

StoreGeometry StoreImpl::Geometry() const {
  StoreGeometry geometry;
  std::copy(uuid_.begin(), uuid_.end(), geometry.volume_uuid);
  geometry.block_count = layout_.block_count;
  geometry.data_first_block = layout_.data_first_block;
  geometry.data_block_count = layout_.data_block_count;
  geometry.log_bytes = layout_.log_block_count * kMetaBlockBytes;
  return geometry;
}

std::vector<std::uint8_t> StoreImpl::HandleKey() const {
  return {std::begin(label_.handle_key), std::end(label_.handle_key)};
}

Result<void> StoreImpl::Health() const {
  if (log_ == nullptr) return Ok();
  return log_->Health();
}

StoreCounters StoreImpl::Counters() const {
  StoreCounters counters;
  if (log_ != nullptr) {
    const auto log = log_->Counters();
    counters.groups = log.groups;
    counters.group_bytes = log.group_bytes;
  }
  counters.checkpoints = checkpoint_count_.load(std::memory_order_relaxed);
  counters.checkpoint_ns = checkpoint_ns_.load(std::memory_order_relaxed);
  counters.recovered_groups = recovered_groups_;
  std::shared_lock lock(map_mutex_);
  counters.commits = commit_count_;
  counters.keys = tree_.key_count();
  counters.key_bytes = tree_.key_bytes();
  counters.node_units = space_.unit_count();
  counters.free_node_units = space_.free_count();
  counters.cached_nodes = cache_.size();
  counters.dirty_nodes = tree_.dirty_count();
  counters.nodes_read = read_count_.load(std::memory_order_relaxed);
  counters.nodes_written = written_count_.load(std::memory_order_relaxed);
  return counters;
}

}  // namespace filer::engine
