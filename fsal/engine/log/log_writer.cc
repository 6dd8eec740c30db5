#include "fsal/engine/log/log_writer.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>

#include "base/assert.h"

namespace filer::engine {
namespace {

constexpr std::size_t kBacklogGroupsMax = 8;
constexpr std::uint32_t kPollsBeforeRelax = 64;
constexpr std::uint32_t kCompletionsPerPoll = 32;
constexpr std::chrono::milliseconds kSleepMax{
    1};  // a sleeper looks itself, should the poller be gone

}  // namespace

LogWriter::LogWriter(BlockDevice& device, const LogRing& ring, const GroupPlace& head)
    : device_(device),
      ring_(ring),
      has_volatile_cache_(device.Info().has_volatile_cache),
      next_(head),
      last_lsn_(head.first_lsn - 1),
      trim_position_(head.position),
      written_lsn_(last_lsn_),
      durable_lsn_(last_lsn_) {}

Result<std::unique_ptr<LogWriter>> LogWriter::Create(BlockDevice& device, const LogRing& ring,
                                                     const GroupPlace& head) {
  FILER_ASSERT(head.first_lsn > 0);
  std::unique_ptr<LogWriter> writer(new LogWriter(device, ring, head));
  MutexLock lock(writer->mutex_);
  for (auto& slot : writer->slots_) {
    slot.buffer = FILER_TRY(device.Pool().Allocate(kGroupBytesMax));
  }
  lock.Unlock();
  return writer;
}

LogWriter::~LogWriter() { Drain(); }

void LogWriter::Drain() {
  MutexLock lock(mutex_);
  sealed_.clear();
  open_.clear();
  for (;;) {
    TakeWrites();
    TakeFlush();
    bool is_busy = is_flushing_;
    for (const auto& slot : slots_) is_busy = is_busy || (slot.is_busy && slot.started_count > 0);
    if (!is_busy) return;
    lock.Unlock();
    if (device_.Poll(kCompletionsPerPoll) == 0) device_.Relax();
    lock.Lock();
    // What was never started will not be.
    for (auto& slot : slots_) slot.part_count = slot.started_count;
  }
}

std::uint64_t LogWriter::UsedBlocks(std::uint64_t more_payload) const {
  std::uint64_t used = next_.position - trim_position_;
  const auto open_payload = open_.empty() ? 0 : open_.size() - sizeof(GroupHeader);
  if (open_payload + more_payload == 0) return used;
  if (open_payload + more_payload <= kGroupPayloadBytesMax) {
    return used + GroupBytes(open_payload + more_payload) / kMetaBlockBytes;
  }
  return used + (GroupBytes(open_payload) + GroupBytes(more_payload)) / kMetaBlockBytes;
}

std::optional<std::uint64_t> LogWriter::TryAppend(std::string_view transaction) {
  FILER_ASSERT(!transaction.empty() && transaction.size() <= kGroupPayloadBytesMax);
  MutexLock lock(mutex_);
  if (UsedBlocks(transaction.size()) > ring_.block_count) return std::nullopt;
  if (!open_.empty() && open_.size() + transaction.size() > kGroupBytesMax) {
    SealOpen();
    Advance();
  }
  if (open_.empty()) {
    open_.resize(sizeof(GroupHeader));
    FILER_ASSERT(next_.first_lsn == last_lsn_ + 1);
  }
  open_.append(transaction);
  return ++last_lsn_;
}

void LogWriter::SealOpen() {
  if (open_.empty()) return;
  const auto payload_bytes = static_cast<std::uint32_t>(open_.size() - sizeof(GroupHeader));
  open_.resize(GroupBytes(payload_bytes));
  const auto bytes = std::as_writable_bytes(std::span(open_.data(), open_.size()));
  const auto header = SealGroup(bytes, next_, last_lsn_, durable_lsn_, payload_bytes);
  const auto position = next_.position;
  next_.position += open_.size() / kMetaBlockBytes;
  next_.first_lsn = last_lsn_ + 1;
  next_.prev_crc32c = header.crc32c;
  sealed_.push_back({std::move(open_), position, last_lsn_});
  open_.clear();
}

void LogWriter::LoadSlot(Slot& slot, SealedGroup group) {
  std::memcpy(slot.buffer.data(), group.bytes.data(), group.bytes.size());
  const auto blocks = group.bytes.size() / kMetaBlockBytes;
  const auto before_wrap = ring_.BlocksBeforeWrap(group.position, blocks);
  slot.part_count = before_wrap == blocks ? 1 : 2;
  slot.started_count = 0;
  slot.is_busy = true;
  slot.last_lsn = group.last_lsn;
  for (std::uint32_t part = 0; part < slot.part_count; ++part) {
    const auto skipped = part == 0 ? 0 : before_wrap;
    const auto length = (part == 0 ? before_wrap : blocks - before_wrap) * kMetaBlockBytes;
    slot.segments[part] = {slot.buffer.data() + skipped * kMetaBlockBytes, length};
    auto& request = slot.requests[part];
    request.operation = BlockOperation::kWrite;
    request.offset_bytes = ring_.OffsetOf(group.position + skipped);
    request.length_bytes = length;
    request.segments = std::span(&slot.segments[part], 1);
    request.is_ok = false;
    request.is_done.store(false, std::memory_order_relaxed);  // nobody else sees it before Submit
  }
  ++counters_.groups;
  counters_.group_bytes += group.bytes.size();
}

bool LogWriter::StartParts(Slot& slot) {
  while (slot.started_count < slot.part_count) {
    const auto started = device_.Submit(slot.requests[slot.started_count]);
    if (!started.has_value()) {
      if (started.error() != Errc::kWouldBlock) FailLocked(started.error());
      return false;
    }
    ++slot.started_count;
  }
  return true;
}

void LogWriter::TakeWrites() {
  for (;;) {
    auto& slot = slots_[oldest_slot_];
    if (!slot.is_busy || slot.started_count < slot.part_count) return;
    bool is_ok = true;
    Errc status = Errc::kIo;
    for (std::uint32_t part = 0; part < slot.part_count; ++part) {
      const auto& request = slot.requests[part];
      if (!request.is_done.load(std::memory_order_acquire))
        return;  // pairs with the device's release
      if (!request.is_ok) {
        is_ok = false;
        status = request.status;
      }
    }
    slot.is_busy = false;
    oldest_slot_ = (oldest_slot_ + 1) % slots_.size();
    if (!is_ok) {
      FailLocked(Error(status));
    } else if (!failure_ && slot.part_count > 0) {
      written_lsn_ = slot.last_lsn;
    }
  }
}

void LogWriter::TakeFlush() {
  if (!is_flushing_ || !flush_.is_done.load(std::memory_order_acquire)) return;  // as above
  is_flushing_ = false;
  if (!flush_.is_ok) {
    FailLocked(Error(flush_.status));
  } else {
    SetDurable(flush_lsn_);
  }
}

void LogWriter::StartFlush() {
  if (!has_volatile_cache_) {
    SetDurable(written_lsn_);
    return;
  }
  if (failure_ || is_flushing_ || wanted_lsn_ <= durable_lsn_ || written_lsn_ <= durable_lsn_)
    return;
  flush_.operation = BlockOperation::kFlush;
  flush_.is_ok = false;
  flush_.is_done.store(false, std::memory_order_relaxed);  // nobody else sees it before Submit
  const auto started = device_.Submit(flush_);
  if (!started.has_value()) {
    if (started.error() != Errc::kWouldBlock) FailLocked(started.error());
    return;
  }
  is_flushing_ = true;
  flush_lsn_ = written_lsn_;
  ++counters_.flushes;
}

void LogWriter::StartWrites() {
  for (auto at = oldest_slot_; !failure_;) {
    // Slots are filled in turn, so the first idle one from the oldest on is next.
    std::uint32_t seen = 0;
    while (seen < slots_.size() && slots_[at].is_busy) {
      if (!StartParts(slots_[at])) return;
      at = (at + 1) % slots_.size();
      ++seen;
    }
    if (seen == slots_.size()) return;
    // A group that waits for the next FLUSH is there already: gather more before writing another.
    const bool is_waiting = is_flushing_ && written_lsn_ > flush_lsn_;
    if (sealed_.empty() && !is_waiting && wanted_lsn_ >= next_.first_lsn) SealOpen();
    if (sealed_.empty()) return;
    LoadSlot(slots_[at], std::move(sealed_.front()));
    sealed_.pop_front();
  }
}

void LogWriter::Advance() {
  TakeWrites();
  TakeFlush();
  StartFlush();
  StartWrites();
}

void LogWriter::SetDurable(std::uint64_t lsn) {
  if (lsn <= durable_lsn_) return;
  durable_lsn_ = lsn;
  if (sleeper_count_ > 0) changed_.NotifyAll();
}

void LogWriter::FailLocked(const Error& error) {
  if (!failure_) {
    failure_ = Error(
        Errc::kIo,
        fmt::format("log: {}; the volume is read-only until it is mounted again", error.message()));
  }
  changed_.NotifyAll();
}

void LogWriter::Fail(const Error& error) {
  MutexLock lock(mutex_);
  FailLocked(error);
}

Result<void> LogWriter::Failure() const {
  if (failure_) return *failure_;
  return Ok();
}

template <typename IsDone>
Result<void> LogWriter::WaitUntil(IsDone is_done, bool is_counted) {
  const std::uint64_t begin_ticks = ReadTicks();
  MutexLock lock(mutex_);
  bool has_waited = false;
  bool is_poller = false;
  std::uint32_t empty_polls = 0;
  Result<void> result = Ok();
  for (;;) {
    Advance();
    if (is_done()) break;
    result = Failure();
    if (!result.has_value()) break;
    has_waited = true;
    if (is_polling_ && !is_poller) {
      ++sleeper_count_;
      changed_.WaitFor(lock, kSleepMax);
      --sleeper_count_;
      continue;
    }
    is_polling_ = is_poller = true;
    lock.Unlock();
    if (device_.Poll(kCompletionsPerPoll) > 0) {
      empty_polls = 0;
    } else if (++empty_polls > kPollsBeforeRelax) {
      device_.Relax();
    }
    lock.Lock();
  }
  if (is_poller) is_polling_ = false;
  if (is_counted && has_waited) sync_waits_.Add(ReadTicks() - begin_ticks);
  if (!is_polling_ && sleeper_count_ > 0) changed_.NotifyOne();  // somebody must take over
  return result;
}

Result<void> LogWriter::Sync(std::uint64_t lsn) {
  {
    MutexLock lock(mutex_);
    if (lsn > last_lsn_) return Error(Errc::kInvalidArgument, "sync beyond the last transaction");
    wanted_lsn_ = std::max(wanted_lsn_, lsn);
  }
  return WaitUntil([this, lsn]() FILER_NO_THREAD_SAFETY_ANALYSIS { return durable_lsn_ >= lsn; },
                   true);
}

Result<void> LogWriter::LimitBacklog() {
  {
    MutexLock lock(mutex_);
    if (sealed_.size() <= kBacklogGroupsMax) return Ok();
  }
  return WaitUntil(
      [this]() FILER_NO_THREAD_SAFETY_ANALYSIS { return sealed_.size() <= kBacklogGroupsMax; },
      false);
}

LogWriter::CutPoint LogWriter::Cut() {
  MutexLock lock(mutex_);
  SealOpen();
  return {last_lsn_, next_.position, next_.prev_crc32c};
}

void LogWriter::Trim(std::uint64_t position) {
  MutexLock lock(mutex_);
  FILER_ASSERT(position >= trim_position_ && position <= next_.position);
  trim_position_ = position;
}

bool LogWriter::HasRoom(std::uint64_t transaction_bytes) const {
  MutexLock lock(mutex_);
  return UsedBlocks(transaction_bytes) <= ring_.block_count;
}

Result<void> LogWriter::Health() const {
  MutexLock lock(mutex_);
  return Failure();
}

std::uint64_t LogWriter::LastLsn() const {
  MutexLock lock(mutex_);
  return last_lsn_;
}

std::uint64_t LogWriter::DurableLsn() const {
  MutexLock lock(mutex_);
  return durable_lsn_;
}

std::uint64_t LogWriter::UsedBytes() const {
  MutexLock lock(mutex_);
  return UsedBlocks(0) * kMetaBlockBytes;
}

LogCounters LogWriter::Counters() const {
  MutexLock lock(mutex_);
  LogCounters counters = counters_;
  counters.sync = sync_waits_.Summary();
  return counters;
}

}  // namespace filer::engine
