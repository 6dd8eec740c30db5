#include "fsal/engine/tree/store_impl.h"

#include <fmt/format.h>

#include <map>
#include <mutex>

#include "base/assert.h"
#include "base/log.h"
#include "fsal/engine/format/record.h"
#include "fsal/engine/log/log_replay.h"

namespace filer::engine {

static_assert(kKeyBytesMax == kRecordKeyBytesMax && kValueBytesMax == kRecordValueBytesMax);

namespace {

// Share of the checkpoint area that only transactions which erase something may use, so that a full
// volume can be emptied.
constexpr std::uint64_t kReserveDivisor = 100;
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

}  // namespace

StoreImpl::StoreImpl(BlockDevice& device, const Clock& clock, const Label& label)
    : device_(device),
      clock_(clock),
      label_(label),
      layout_(LayoutOf(label)),
      uuid_(ToUuid(label.volume_uuid)),
      capacity_bytes_(CheckpointCapacity(layout_)) {}

Result<std::unique_ptr<Store>> StoreImpl::Open(BlockDevice& device, const Clock& clock,
                                               bool read_only) {
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
  std::unique_ptr<StoreImpl> store(new StoreImpl(device, clock, loaded.label));
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
  FILER_TRY(ReadCheckpoint(device_, layout_, root_, tree_, stream_bytes_));
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
  if (stream_bytes_ > capacity_bytes_) {
    return Error(Errc::kCorrupt, "log: its transactions do not fit the checkpoint area");
  }
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
  for (std::uint32_t change = 0; change < view.change_count; ++change) {
    const auto pair = FILER_TRY(TakePair(view.pairs));
    if (!pair) return Error(Errc::kCorrupt, "a change is cut short");
    Apply(pair->key, pair->value);
  }
  if (!view.pairs.empty()) return Error(Errc::kCorrupt, "more bytes than changes");
  return Ok();
}

// A new log epoch, durable before anybody is served: what the log held is in a checkpoint then, and
// its groups are stale.
Result<void> StoreImpl::StartMount() {
  buffers_ = FILER_TRY(AllocateCheckpointBuffers(device_));
  auto root = root_;
  root.epoch += 1;
  root.mount_epoch += 1;
  root.log_epoch = MixLogEpoch(uuid_, root.mount_epoch, clock_.RealtimeNs());
  root.log_head_position = 0;
  root.log_head_prev_crc32c = 0;
  root.is_clean = 0;
  if (recovered_groups_ > 0) {
    root.checkpoint_lsn = recovered_lsn_;
    FILER_TRY(WriteSnapshot(tree_.TakeSnapshot(), root));
  }
  FILER_TRY(WriteUberblock(device_, layout_, root, buffers_[0]));
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

// Writes the area that `root` does not point to, and points it there. Durable on return.
Result<void> StoreImpl::WriteSnapshot(const CowTree::Snapshot& snapshot, Uberblock& root) {
  const auto started_ns = clock_.MonotonicNs();
  const auto area = root.checkpoint_id == 0 ? 0U : 1U - root.checkpoint_area;
  const auto extent =
      FILER_TRY(WriteCheckpoint(device_, layout_, uuid_, root.epoch, area, snapshot, buffers_));
  FILER_TRY(FlushIfCached(device_));
  root.checkpoint_id = extent.id;
  root.checkpoint_area = extent.area;
  root.checkpoint_crc32c = extent.crc32c;
  root.checkpoint_bytes = extent.bytes;
  root.checkpoint_chunks = extent.chunks;
  root.key_count = extent.key_count;
  checkpoint_count_.fetch_add(1, std::memory_order_relaxed);
  checkpoint_ns_.fetch_add(static_cast<std::uint64_t>(clock_.MonotonicNs() - started_ns),
                           std::memory_order_relaxed);
  return Ok();
}

Result<void> StoreImpl::RunCheckpoint(bool is_clean) {
  FILER_TRY(log_->Health());
  std::unique_lock lock(map_mutex_);
  const auto cut = log_->Cut();
  const bool is_new = cut.lsn != root_.checkpoint_lsn;
  if (!is_new && !is_clean) return Ok();
  const auto snapshot = tree_.TakeSnapshot();
  lock.unlock();

  // The log up to the cut must be written before its place is given away.
  FILER_TRY(log_->Sync(cut.lsn));
  auto root = root_;
  root.epoch += 1;
  root.checkpoint_lsn = cut.lsn;
  root.log_head_position = cut.position;
  root.log_head_prev_crc32c = cut.prev_crc32c;
  root.is_clean = is_clean ? 1 : 0;
  Result<void> written = Ok();
  if (is_new) written = WriteSnapshot(snapshot, root);
  if (written.has_value()) written = WriteUberblock(device_, layout_, root, buffers_[0]);
  if (!written.has_value()) {
    const Error error(Errc::kIo, "checkpoint: " + written.error().message());
    log_->Fail(error);
    return error;
  }
  root_ = root;
  log_->Trim(cut.position);
  return Ok();
}

Result<void> StoreImpl::Checkpoint() {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(false);
}

Result<void> StoreImpl::Close() {
  if (log_ == nullptr) return Ok();
  MutexLock lock(checkpoint_mutex_);
  return RunCheckpoint(true);
}

std::uint64_t StoreImpl::PairBytesOf(std::string_view key) const {
  const auto value = tree_.Find(key);
  return value ? PairBytes(key.size(), value->size()) : 0;
}

bool StoreImpl::FitsCheckpoint(const Transaction& transaction) const {
  std::uint64_t put_bytes = 0;
  bool has_erase = false;
  for (const auto& change : transaction.changes()) {
    if (change.value) {
      put_bytes += PairBytes(change.key.size(), change.value->size());
    } else {
      has_erase = true;
    }
  }
  const auto reserve = capacity_bytes_ / kReserveDivisor;
  if (stream_bytes_ + put_bytes <= capacity_bytes_ - reserve) return true;
  // Close to the end: count exactly, the last change of each key.
  std::map<std::string_view, std::uint64_t> after;
  for (const auto& change : transaction.changes()) {
    after[change.key] = change.value ? PairBytes(change.key.size(), change.value->size()) : 0;
  }
  std::uint64_t added = 0;
  std::uint64_t removed = 0;
  for (const auto& [key, bytes] : after) {
    added += bytes;
    removed += PairBytesOf(key);
  }
  if (added <= removed) return true;
  return stream_bytes_ + added - removed <= capacity_bytes_ - (has_erase ? 0 : reserve);
}

void StoreImpl::Apply(std::string_view key, std::optional<std::string_view> value) {
  stream_bytes_ -= PairBytesOf(key);
  if (value) {
    tree_.Put(key, *value);
    stream_bytes_ += PairBytes(key.size(), value->size());
  } else {
    tree_.Erase(key);
  }
}

Result<Lsn> StoreImpl::Commit(Transaction transaction) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  if (transaction.empty()) return log_->LastLsn();
  const auto record = FILER_TRY(Encode(transaction));
  for (;;) {
    FILER_TRY(log_->Health());
    std::unique_lock lock(map_mutex_);
    if (!FitsCheckpoint(transaction)) {
      return Error(Errc::kNoSpace,
                   "metadata: the checkpoint area is full; delete files or use a larger volume");
    }
    const auto lsn = log_->TryAppend(record);
    if (lsn) {
      for (const auto& change : transaction.changes()) Apply(change.key, change.value);
      ++commit_count_;
      lock.unlock();
      FILER_TRY(log_->LimitBacklog());
      return *lsn;
    }
    lock.unlock();
    FILER_TRY(MakeLogRoom(record.size()));
  }
}

Result<void> StoreImpl::MakeLogRoom(std::size_t record_bytes) {
  MutexLock lock(checkpoint_mutex_);
  if (log_->HasRoom(record_bytes)) return Ok();  // another thread's checkpoint has made it
  return RunCheckpoint(false);
}

Result<void> StoreImpl::Sync(Lsn lsn) {
  if (log_ == nullptr) return Error(Errc::kReadOnly);
  FILER_TRY(log_->Sync(lsn));
  if (log_->UsedBytes() <= layout_.log_block_count * kMetaBlockBytes / kCheckpointLogDivisor) {
    return Ok();
  }
  if (!checkpoint_mutex_.try_lock()) return Ok();  // somebody is at it
  // Its failure is the next commit's to tell: what this caller asked for is durable.
  const auto checkpoint = RunCheckpoint(false);
  checkpoint_mutex_.unlock();
  if (!checkpoint.has_value()) FILER_LOG_ERROR("{}", checkpoint.error().message());
  return Ok();
}

Lsn StoreImpl::LastLsn() const { return log_ == nullptr ? recovered_lsn_ : log_->LastLsn(); }

Lsn StoreImpl::DurableLsn() const { return log_ == nullptr ? recovered_lsn_ : log_->DurableLsn(); }

Result<std::string> StoreImpl::Get(std::string_view key) const {
  std::shared_lock lock(map_mutex_);
  const auto value = tree_.Find(key);
  if (!value) return Error(Errc::kNotFound);
  return std::string(*value);
}

void StoreImpl::Scan(
    std::string_view from, std::string_view to,
    const std::function<bool(std::string_view key, std::string_view value)>& visit) const {
  std::shared_lock lock(map_mutex_);
  tree_.Scan(from, to, visit);
}

Result<std::pair<std::string, std::string>> StoreImpl::Last(std::string_view from,
                                                            std::string_view to) const {
  std::shared_lock lock(map_mutex_);
  const auto found = tree_.Last(from, to);
  if (!found) return Error(Errc::kNotFound);
  return std::pair<std::string, std::string>(found->first, found->second);
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
  counters.keys = tree_.size();
  counters.key_bytes = stream_bytes_ - tree_.size() * PairBytes(0, 0);
  return counters;
}

}  // namespace filer::engine
