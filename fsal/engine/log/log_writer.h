// log_writer.h: appends transactions to the log ring and makes them durable by group commit.
//
// Transactions gather in an open group. A thread that waits for durability seals it as soon as one
// of two slots is free, writes it, and sends one FLUSH (none without a volatile cache) for all that
// was written by then. One of the waiting threads polls the device, the others sleep until it tells
// them. There is no timer and no thread here. Invariants: groups are written in the order of their
// LSNs; durable <= written <= last; what was sealed has its place in the ring,
//   what is open has room for it.
// A failed write or FLUSH is final: durable_lsn stays where it was, every wait ends with kIo.
// Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/latency.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/log/log_ring.h"

namespace filer::engine {

struct LogCounters {
  std::uint64_t groups = 0;
  std::uint64_t group_bytes = 0;
  std::uint64_t flushes = 0;
  LatencySummary sync;  // of Sync, where it had to wait
};

class LogWriter {
 public:
  // Where a checkpoint separates what it holds from what stays in the log.
  struct CutPoint {
    std::uint64_t lsn = 0;       // last one before the cut
    std::uint64_t position = 0;  // of the first group behind it
    std::uint32_t prev_crc32c = 0;
  };

  // Starts at `head`: head.first_lsn is the next LSN. Takes two buffers of 1 MiB from the pool.
  // Errors: kNoMemory.
  static Result<std::unique_ptr<LogWriter>> Create(BlockDevice& device, const LogRing& ring,
                                                   const GroupPlace& head);
  // Waits for requests in flight; writes nothing more.
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // Appends one encoded transaction of at most kGroupPayloadBytesMax. nullopt: the ring is full,
  // trim it first. Never blocks.
  std::optional<std::uint64_t> TryAppend(std::string_view transaction);

  // Waits until everything up to `lsn` is durable. Errors: kInvalidArgument (beyond the last), kIo.
  Result<void> Sync(std::uint64_t lsn);

  // Waits while more than a few sealed groups are not written. Errors: kIo.
  Result<void> LimitBacklog();

  // Seals the open group. The caller keeps others from appending between this and its look at the
  // state.
  CutPoint Cut();
  // Everything before `position` may be overwritten. The caller has synced it.
  void Trim(std::uint64_t position);

  // Whether TryAppend of that many bytes would find room now.
  bool HasRoom(std::uint64_t transaction_bytes) const;
  // The failure that ended it, if any. Errors: kIo.
  Result<void> Health() const;

  // No more writes: something else of the volume failed.
  void Fail(const Error& error);

  std::uint64_t LastLsn() const;
  std::uint64_t DurableLsn() const;
  std::uint64_t UsedBytes() const;
  LogCounters Counters() const;

 private:
  struct Slot {
    BufferRef buffer;
    std::array<BlockRequest, 2> requests;  // two when the group wraps
    std::array<iovec, 2> segments;
    std::uint32_t part_count = 0;
    std::uint32_t started_count = 0;
    bool is_busy = false;
    std::uint64_t last_lsn = 0;
  };
  struct SealedGroup {
    std::string bytes;
    std::uint64_t position = 0;
    std::uint64_t last_lsn = 0;
  };

  LogWriter(BlockDevice& device, const LogRing& ring, const GroupPlace& head);

  // One step of the state machine: take completions, start what can start. Never blocks.
  void Advance() FILER_REQUIRES(mutex_);
  void TakeWrites() FILER_REQUIRES(mutex_);
  void TakeFlush() FILER_REQUIRES(mutex_);
  void StartWrites() FILER_REQUIRES(mutex_);
  void StartFlush() FILER_REQUIRES(mutex_);
  void SealOpen() FILER_REQUIRES(mutex_);
  void LoadSlot(Slot& slot, SealedGroup group) FILER_REQUIRES(mutex_);
  bool StartParts(Slot& slot) FILER_REQUIRES(mutex_);  // false: the device's queue is full
  void SetDurable(std::uint64_t lsn) FILER_REQUIRES(mutex_);
  void FailLocked(const Error& error) FILER_REQUIRES(mutex_);
  Result<void> Failure() const FILER_REQUIRES(mutex_);
  std::uint64_t UsedBlocks(std::uint64_t more_payload) const FILER_REQUIRES(mutex_);
  template <typename IsDone>
  Result<void> WaitUntil(IsDone is_done, bool is_counted);
  void Drain();

  BlockDevice& device_;
  const LogRing ring_;
  const bool has_volatile_cache_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool is_polling_ FILER_GUARDED_BY(mutex_) = false;
  std::uint32_t sleeper_count_ FILER_GUARDED_BY(mutex_) = 0;
  std::optional<Error> failure_ FILER_GUARDED_BY(mutex_);

  GroupPlace next_ FILER_GUARDED_BY(mutex_);  // of the open group, once it is sealed
  std::string open_
      FILER_GUARDED_BY(mutex_);  // room for the header, then transactions; empty: none
  std::uint64_t last_lsn_ FILER_GUARDED_BY(mutex_);
  std::uint64_t trim_position_ FILER_GUARDED_BY(mutex_);
  std::deque<SealedGroup> sealed_ FILER_GUARDED_BY(mutex_);

  std::array<Slot, 2> slots_ FILER_GUARDED_BY(mutex_);
  std::uint32_t oldest_slot_ FILER_GUARDED_BY(mutex_) = 0;  // written first
  std::uint64_t written_lsn_ FILER_GUARDED_BY(mutex_);
  BlockRequest flush_ FILER_GUARDED_BY(mutex_);
  bool is_flushing_ FILER_GUARDED_BY(mutex_) = false;
  std::uint64_t flush_lsn_ FILER_GUARDED_BY(mutex_) = 0;
  std::uint64_t durable_lsn_ FILER_GUARDED_BY(mutex_);
  std::uint64_t wanted_lsn_ FILER_GUARDED_BY(mutex_) = 0;
  LogCounters counters_ FILER_GUARDED_BY(mutex_);
  LatencyCounts sync_waits_ FILER_GUARDED_BY(mutex_);
};

}  // namespace filer::engine
