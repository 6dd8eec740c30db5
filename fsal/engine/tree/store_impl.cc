#include "fsal/engine/tree/store_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"
#include "fsal/engine/tree/additions.h"

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
constexpr int kCheckpointsForSpace = 3;    // after two, all that was freed before is free
// Runs that wait for their list count as dirty nodes, so that a checkpoint writes them in time.
constexpr std::uint64_t kRunsPerDirtyNode = 64;
constexpr std::uint64_t kCheckpointLogDivisor =
    4;  // a quarter of the log in use asks for a checkpoint

Error MapContradicts() {
  return Error(Errc::kCorrupt,
               "commit: blocks that are in use already, or dropped ones that were not: the "
               "volume's metadata contradict each other; run volume check");
}

std::uint64_t PagesOf(const StoreOpenOptions& options) {
  return std::max(kCachePagesLeast, options.cache_bytes / kNodeBytes);
}

std::vector<TreeChange> ChangesOf(const Transaction& transaction) {
  std::vector<TreeChange> changes;
  changes.reserve(transaction.changes().size() + transaction.additions().size());
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
      run_of_(options.run_of) {}

StoreImpl::Runs StoreImpl::RunsOf(const Transaction& transaction, std::uint64_t shared_epoch) {
  Runs runs;
  runs.used = transaction.used();
  for (const auto& dropped : transaction.dropped()) {
    if (dropped.birth_epoch <= shared_epoch) {
      runs.buried.push_back(dropped);
    } else {
      runs.dropped.push_back(dropped.run);
    }
  }
  runs.file_delta = transaction.file_delta();
  return runs;
}

Result<std::string> StoreImpl::Encode(const Transaction& transaction, const Runs& runs,
                                      TreeId tree) {
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
  FILER_TRY(Additions::Encode(transaction, record));
  std::vector<BlockRun> gone = runs.dropped;
  for (const auto& buried : runs.buried) gone.push_back(buried.run);
  if (DoOverlap(runs.used, gone)) return MapContradicts();
  const auto pair_bytes = record.size() - sizeof(TransactionHeader);
  for (const auto& run : runs.used) AppendRun(record, run, kRunUsed);
  for (const auto& run : runs.dropped) AppendRun(record, run, kRunDropped);
  for (const auto& run : runs.nodes) AppendRun(record, run, kRunNodes);
  for (const auto& run : runs.buried) AppendRun(record, run.run, kRunBuried, run.birth_epoch);
  if (record.size() > kGroupPayloadBytesMax) {
    return Error(Errc::kTooBig, "commit: the transaction is larger than a log group");
  }
  TransactionHeader header{};
  header.tree = tree;
  header.run_count = static_cast<std::uint32_t>(runs.used.size() + gone.size() + runs.nodes.size());
  header.file_delta = static_cast<std::uint32_t>(runs.file_delta);
  header.change_count =
      static_cast<std::uint32_t>(transaction.changes().size() + transaction.additions().size());
  header.pair_bytes = static_cast<std::uint32_t>(pair_bytes);
  std::memcpy(record.data(), &header, sizeof(header));
  return record;
}

bool StoreImpl::CanApply(const Runs& runs) const {
  const auto is_used = [&](const BlockRun& run) { return map_.IsAll(run, true); };
  return std::ranges::all_of(runs.used, [&](const auto& run) { return map_.IsAll(run, false); }) &&
         std::ranges::all_of(runs.dropped, is_used) &&
         std::ranges::all_of(runs.buried, is_used, &DroppedRun::run) &&
         std::ranges::all_of(runs.nodes, [&](const auto& run) { return space_.IsUsed(run.first); });
}

void StoreImpl::ApplyRuns(TreeState& to, const Runs& runs) {
  for (const auto& run : runs.used) map_.Use(run);
  for (const auto& run : runs.dropped) map_.Drop(run);
  for (const auto& run : runs.buried) to.tree.Bury(run);
  for (const auto& run : runs.nodes) {
    space_.FreeLater(run.first, open_.epoch());
    cache_.Remove(run.first);
  }
  to.file_count += static_cast<std::uint64_t>(std::int64_t{runs.file_delta});
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
  return needs.unit_count + held_back + UnitsForCheckpoint() <= space_.free_count();
}

Result<Lsn> StoreImpl::CommitTo(TreeState& to, Transaction transaction,
                                std::vector<BlockRun>* freed) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  if (transaction.empty()) return log_->LastLsn();
  auto shared_epoch = to.shared_epoch.load();
  auto runs = RunsOf(transaction, shared_epoch);
  auto record = FILER_TRY(Encode(transaction, runs, to.id));
  Additions additions(transaction);
  auto changes = ChangesOf(transaction);
  additions.AppendChanges(changes);
  Held held;
  call_count_.Add();
  for (int checkpoints = 0;;) {
    FILER_TRY(log_->Health());
    std::unique_lock lock(map_mutex_);
    if (to.is_gone) return Error(Errc::kStaleHandle);
    if (!to.IsWritable()) return Error(Errc::kReadOnly, "commit: a snapshot does not change");
    if (to.tree.shared_epoch() >= transaction.born_in()) return Error(Errc::kWouldBlock);
    if (to.tree.shared_epoch() != shared_epoch) {  // a snapshot came or went
      shared_epoch = to.tree.shared_epoch();
      runs = RunsOf(transaction, shared_epoch);
      record = FILER_TRY(Encode(transaction, runs, to.id));
    }
    NodeTree::Needs needs;
    Misses misses;
    if (to.tree.Prepare(changes, needs, misses) == NodeTree::Step::kMiss) {
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
    if (!CanApply(runs)) return MapContradicts();
    FILER_TRY(additions.Settle(to.tree, record));
    const auto lsn = log_->TryAppend(record);
    if (!lsn) {
      lock.unlock();
      FILER_TRY(MakeLogRoom(record.size()));
      continue;
    }
    FILER_TRY(Apply(to, changes, runs));
    lock.unlock();
    if (freed != nullptr) *freed = std::move(runs.dropped);
    LimitDirty();
    FILER_TRY(log_->LimitBacklog());
    return *lsn;
  }
}

// It is in the log: now in memory.
Result<void> StoreImpl::Apply(TreeState& to, std::span<const TreeChange> changes,
                              const Runs& runs) {
  const auto buried_before = to.tree.buried_count();
  to.tree.Apply(changes);
  ApplyRuns(to, runs);
  buried_count_ += to.tree.buried_count() - buried_before;
  cache_.Trim();
  ++commit_count_;
  if (space_.is_confused()) {
    const Error error(Errc::kCorrupt, "a metadata node has two parents; run volume check");
    log_->Fail(error);
    return error;
  }
  dirty_count_.store(open_.count() + buried_count_ / kRunsPerDirtyNode, std::memory_order_relaxed);
  return Ok();
}

Result<Lsn> StoreImpl::CommitNow(TreeState& to, const Transaction& transaction, const Runs& runs) {
  FILER_ASSERT(transaction.additions().empty());  // the store's own, all of them
  const auto record = FILER_TRY(Encode(transaction, runs, to.id));
  const auto changes = ChangesOf(transaction);
  Held held;
  for (;;) {
    FILER_TRY(log_->Health());
    std::unique_lock lock(map_mutex_);
    NodeTree::Needs needs;
    Misses misses;
    if (to.tree.Prepare(changes, needs, misses) == NodeTree::Step::kMiss) {
      lock.unlock();
      FILER_TRY(Load(misses, held));
      continue;
    }
    if (!CanApply(runs)) return MapContradicts();
    if (needs.unit_count + UnitsForCheckpoint() > space_.free_count()) {
      return Error(Errc::kWouldBlock);
    }
    const auto lsn = log_->TryAppend(record);
    if (!lsn) return Error(Errc::kWouldBlock);
    FILER_TRY(Apply(to, changes, runs));
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
  if (held.IsFirstLoad()) reading_call_count_.fetch_add(1, std::memory_order_relaxed);
  const std::unique_lock lock(map_mutex_);
  for (auto& page : pages) held.Add(cache_.AddRead(std::move(page)));
  return Ok();
}

// Runs `attempt` under the shared lock until it misses nothing. False: what it looked for is not
// there.
template <typename Attempt>
Result<bool> StoreImpl::Read(const TreeState& of, Attempt attempt) const {
  std::optional<Held> held;
  call_count_.Add();
  for (;;) {
    Misses misses;
    {
      const std::shared_lock lock(map_mutex_);
      if (of.is_gone) return Error(Errc::kStaleHandle);
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

Result<std::string> StoreImpl::GetFrom(const TreeState& of, std::string_view key) const {
  std::string value;
  const bool is_there =
      FILER_TRY(Read(of, [&](Misses& misses) { return of.tree.Find(key, value, misses); }));
  if (!is_there) return Error(Errc::kNotFound);
  return value;
}

Result<void> StoreImpl::ScanIn(const TreeState& of, std::string_view from, std::string_view to,
                               const Visit& visit) const {
  std::string next(from);
  FILER_TRY(Read(of, [&](Misses& misses) { return of.tree.Scan(next, to, visit, misses); }));
  return Ok();
}

Result<std::pair<std::string, std::string>> StoreImpl::LastIn(const TreeState& of,
                                                              std::string_view from,
                                                              std::string_view to) const {
  std::pair<std::string, std::string> found;
  const bool is_there =
      FILER_TRY(Read(of, [&](Misses& misses) { return of.tree.Last(from, to, found, misses); }));
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

StoreCounters StoreImpl::CountersOf(const TreeState& of) const {
  StoreCounters counters;
  if (log_ != nullptr) {
    const auto log = log_->Counters();
    counters.groups = log.groups;
    counters.group_bytes = log.group_bytes;
    counters.sync = log.sync;
    counters.log_used_bytes = log_->UsedBytes();
  }
  counters.checkpoints = checkpoint_count_.load(std::memory_order_relaxed);
  counters.checkpoint_ns = checkpoint_ns_.load(std::memory_order_relaxed);
  counters.checkpoint_last_ns = checkpoint_last_ns_.load(std::memory_order_relaxed);
  counters.checkpoint_max_ns = checkpoint_max_ns_.load(std::memory_order_relaxed);
  counters.recovered_groups = recovered_groups_;
  counters.calls_that_read = reading_call_count_.load(std::memory_order_relaxed);
  counters.calls = call_count_.Sum();
  std::shared_lock lock(map_mutex_);
  counters.commits = commit_count_;
  counters.files = of.file_count;
  counters.keys = of.tree.key_count();
  counters.key_bytes = of.tree.key_bytes();
  counters.node_units = space_.unit_count();
  counters.free_node_units = space_.free_count();
  counters.cached_nodes = cache_.size();
  counters.cached_nodes_max = cache_.page_count_max();
  counters.dirty_nodes = open_.count();
  counters.nodes_read = read_count_.load(std::memory_order_relaxed);
  counters.nodes_written = written_count_.load(std::memory_order_relaxed);
  return counters;
}

}  // namespace filer::engine
