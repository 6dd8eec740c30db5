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

Error MapContradicts() {
  return Error(Errc::kCorrupt,
               "commit: blocks that are in use already, or dropped ones that were not: the "
               "volume's metadata contradict each other; run volume check");
}

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
  if (DoOverlap(transaction.used(), transaction.dropped())) return MapContradicts();
  const auto pair_bytes = record.size() - sizeof(TransactionHeader);
  for (const auto& run : transaction.used()) AppendRun(record, run, kRunUsed);
  for (const auto& run : transaction.dropped()) AppendRun(record, run, kRunDropped);
  if (record.size() > kGroupPayloadBytesMax) {
    return Error(Errc::kTooBig, "commit: the transaction is larger than a log group");
  }
  TransactionHeader header{};
  header.run_count =
      static_cast<std::uint32_t>(transaction.used().size() + transaction.dropped().size());
  header.file_delta = static_cast<std::uint32_t>(transaction.file_delta());
  header.change_count = static_cast<std::uint32_t>(transaction.changes().size());
  header.pair_bytes = static_cast<std::uint32_t>(pair_bytes);
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
      map_(layout_, uuid_),
      space_(layout_.node_first_block, layout_.node_block_count / kNodeBlocks, &map_),
      tree_(uuid_, cache_, space_) {}

bool StoreImpl::CanApply(std::span<const BlockRun> used, std::span<const BlockRun> dropped) const {
  return std::ranges::all_of(used, [&](const auto& run) { return map_.IsAll(run, false); }) &&
         std::ranges::all_of(dropped, [&](const auto& run) { return map_.IsAll(run, true); });
}

void StoreImpl::ApplyRuns(std::span<const BlockRun> used, std::span<const BlockRun> dropped,
                          std::int32_t file_delta) {
  for (const auto& run : used) map_.Use(run);
  for (const auto& run : dropped) map_.Drop(run);
  file_count_ += static_cast<std::uint64_t>(std::int64_t{file_delta});
}

StoreImpl::Cut StoreImpl::Freeze() { return {tree_.Freeze(), map_.TakeChanged(), file_count_}; }

// Writes what changed since the checkpoint before, and points `root` there. Durable on return.
Result<StoreImpl::WrittenCut> StoreImpl::WriteCut(const Cut& cut, Uberblock& root) {
  const auto started_ns = clock_.MonotonicNs();
  const auto& frozen = cut.tree;
  WrittenCut written;
  auto& sealed = written.sealed;
  sealed = FILER_TRY(WriteNodes(device_, frozen.pages, buffers_));
  written.map = FILER_TRY(map_.Write(device_, cut.map, frozen.root.epoch, buffers_[0]));
  FILER_TRY(FlushIfCached(device_));
  root.tree_epoch = frozen.root.epoch;
  root.root = frozen.root.pointer;
  const auto is_written = sealed.find(root.root.block);
  if (is_written != sealed.end()) root.root.crc32c = is_written->second;
  root.root_level = frozen.root.level;
  root.node_count = frozen.root.node_count;
  root.key_count = frozen.root.key_count;
  root.key_bytes = frozen.root.key_bytes;
  root.map_sum = written.map.sum;
  root.file_count = cut.file_count;
  written_count_.fetch_add(frozen.pages.size(), std::memory_order_relaxed);
  checkpoint_count_.fetch_add(1, std::memory_order_relaxed);
  checkpoint_ns_.fetch_add(static_cast<std::uint64_t>(clock_.MonotonicNs() - started_ns),
                           std::memory_order_relaxed);
  return written;
}

// The checkpoint is durable: its nodes are clean, and what earlier ones alone needed is free.
void StoreImpl::Thaw(const Cut& cut, const WrittenCut& written) {
  map_.Accept(written.map);
  const auto& frozen = cut.tree;
  const auto& sealed = written.sealed;
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
  Cut frozen;
  if (has_tree) frozen = Freeze();
  lock.unlock();

  // The log up to the cut must be written before its place is given away.
  FILER_TRY(log_->Sync(cut.lsn));
  auto root = root_;
  root.epoch += 1;
  root.checkpoint_lsn = cut.lsn;
  root.log_head_position = cut.position;
  root.log_head_prev_crc32c = cut.prev_crc32c;
  root.is_clean = reason == Reason::kClose ? 1 : 0;
  WrittenCut done;
  const auto write = [&]() -> Result<void> {
    if (has_tree) done = FILER_TRY(WriteCut(frozen, root));
    return WriteUberblock(device_, layout_, root, buffers_[0]);
  };
  const auto written = write();
  if (!written.has_value()) {
    const Error error(Errc::kIo, "checkpoint: " + written.error().message());
    log_->Fail(error);
    return error;
  }
  root_ = root;
  if (has_tree) Thaw(frozen, done);
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
    if (!CanApply(transaction.used(), transaction.dropped())) {
      return MapContradicts();
    }
    const auto lsn = log_->TryAppend(record);
    if (!lsn) {
      lock.unlock();
      FILER_TRY(MakeLogRoom(record.size()));
      continue;
    }
    tree_.Apply(changes);
    ApplyRuns(transaction.used(), transaction.dropped(), transaction.file_delta());
    cache_.Trim();
    ++commit_count_;
    if (space_.is_confused()) {
      const Error error(Errc::kCorrupt, "a metadata node has two parents; run volume check");
      log_->Fail(error);
      return error;
    }
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
  auto read = reader_.ReadAll(misses);
  for (std::size_t at = 0; at < misses.size(); ++at) {
    auto& page = read[at];
    if (page.has_value()) {
      pages.push_back(std::move(page).value());
    } else if (misses[at].is_ahead) {
      continue;
    } else if (page.error() != Errc::kCorrupt || held.IsSecondFailure(misses[at].pointer)) {
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

SpaceReport StoreImpl::Space() const { return report_; }

std::vector<std::uint64_t> StoreImpl::UsedBlocks() const {
  const std::shared_lock lock(map_mutex_);
  const auto words = map_.data_words();
  return {words.begin(), words.end()};
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
  counters.files = file_count_;
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
