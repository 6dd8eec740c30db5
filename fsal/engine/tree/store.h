// store.h: the transactional key-value core under the file system (ENGINE: get, scan, commit,
// sync). The file system stands strictly above this header, so that the core can be tested against
// std::map and replaced.
//
// Semantics
// - A transaction is a list of puts and erases, applied atomically and visible to readers at once
// when Commit returns.
// - Commit returns a log sequence number (LSN). Sync(lsn) returns when everything up to that LSN is
// durable. Concurrent callers
//   share one log write and one FLUSH (group commit).
// - Prefix consistency: after a crash the store holds a prefix of the commit order that contains
// all that was synced.
// - Metadata lives on the volume; memory holds a bounded part of it. A call that needs what is not
// in memory reads it.
// - A write error of the log or a checkpoint makes the store read-only: Commit and Sync answer kIo
// from then on (nothing that
//   was not durable is ever acknowledged).
// Threads: any. Get and Scan take a shared lock for microseconds; no lock is held across I/O. Get,
// Scan, Last and Commit may block for reads.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/latency.h"
#include "base/result.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/format/block_run.h"

namespace filer::engine {

using Lsn = std::uint64_t;  // grows by one per committed transaction; 0: before the first

inline constexpr std::size_t kKeyBytesMax = 512;
inline constexpr std::size_t kValueBytesMax = 128 * 1024;

inline constexpr std::size_t kSums = 2;  // of a key that transactions add to

class Transaction {
 public:
  struct Addition {
    std::string key;
    std::array<std::int64_t, kSums> by;
  };
  struct Change {
    std::string key;
    std::optional<std::string> value;  // nullopt: erase
  };
  void Put(std::string key, std::string value) {
    changes_.push_back({std::move(key), std::move(value)});
  }
  void Erase(std::string key) { changes_.push_back({std::move(key), std::nullopt}); }
  // Adds to the two sums (le64 each) that are the key's value; no value: zeroes. The sum is made in
  // the order of the commits, under the store's lock, so no caller needs one of its own. A sum
  // stays at 0 where it would become negative. Once per key, and nothing else of that key, in one
  // transaction.
  void Add(std::string key, std::array<std::int64_t, kSums> by) {
    if (additions_.empty()) additions_.reserve(3);
    additions_.push_back({std::move(key), by});
  }
  // Blocks of the data area that its keys begin, or cease, to refer to: Store::UsedBlocks knows
  // what is in use without reading the keys. At most 2^32 - 1 blocks a run.
  void Use(BlockRun run) { used_.push_back(run); }
  // `birth_epoch`: the OpenEpoch() that the reference was made in. Up to the tree's SharedEpoch()
  // a snapshot has it, too, and the blocks stay in use.
  void Drop(BlockRun run, std::uint64_t birth_epoch = UINT64_MAX) {
    dropped_.push_back({run, birth_epoch});
  }
  // What it says about births was true at OpenEpoch() `epoch`: Commit refuses it with kWouldBlock
  // if a snapshot of the tree was made since.
  void BornIn(std::uint64_t epoch) { born_in_ = epoch; }
  // Files that come less those that go, for StoreCounters::files.
  void CountFiles(std::int32_t by) { file_delta_ += by; }

  bool empty() const { return changes_.empty() && additions_.empty(); }
  const std::vector<Addition>& additions() const { return additions_; }
  const std::vector<Change>& changes() const {
    return changes_;
  }  // in order; a later change of a key wins
  const std::vector<BlockRun>& used() const { return used_; }
  const std::vector<DroppedRun>& dropped() const { return dropped_; }
  std::int32_t file_delta() const { return file_delta_; }
  std::uint64_t born_in() const { return born_in_; }

 private:
  std::vector<Change> changes_;
  std::vector<Addition> additions_;
  std::vector<BlockRun> used_;
  std::vector<DroppedRun> dropped_;
  std::int32_t file_delta_ = 0;
  std::uint64_t born_in_ = UINT64_MAX;
};

// The part of the volume that the core manages itself is fixed at format: label, uberblocks, log,
// and the region of the tree's nodes. The rest ([data_first_block, data_first_block +
// data_block_count)) is the file system's to allocate from.
struct StoreGeometry {
  std::uint8_t volume_uuid[16] = {};
  std::uint64_t block_count = 0;  // of the device, in 4 KiB blocks
  std::uint64_t data_first_block = 0;
  std::uint64_t data_block_count = 0;
  std::uint64_t log_bytes = 0;
};

struct StoreFormatOptions {
  std::string volume_name;        // at most 63 bytes of [A-Za-z0-9._-]
  std::uint64_t random_seed = 0;  // of uuid and handle key; 0: from the machine
  bool overwrite = false;         // format although a valid label of ours is there
};

struct StoreCounters {
  std::uint64_t commits = 0;  // transactions
  std::uint64_t groups = 0;   // log writes
  std::uint64_t group_bytes = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t checkpoint_ns = 0;  // of all of them
  std::uint64_t checkpoint_last_ns = 0, checkpoint_max_ns = 0;
  std::uint64_t recovered_groups = 0;  // replayed at mount
  std::uint64_t files = 0;             // of the tree
  std::uint64_t keys = 0;              // of the tree
  std::uint64_t key_bytes = 0;         // of its keys and values
  std::uint64_t node_units = 0;        // of 16 KiB, in the region for nodes
  std::uint64_t free_node_units = 0;
  std::uint64_t cached_nodes = 0;
  std::uint64_t cached_nodes_max = 0;
  std::uint64_t calls = 0, calls_that_read = 0;  // Get, Scan, Last, Commit; those not from memory
  std::uint64_t log_used_bytes = 0;
  LatencySummary sync;            // how long Sync waited, where it had to
  std::uint64_t dirty_nodes = 0;  // of them
  std::uint64_t nodes_read = 0;   // since Open
  std::uint64_t nodes_written = 0;
};

struct StoreOpenOptions {
  bool read_only = false;  // nothing is written (for check on a volume that nobody serves)
  // Memory for nodes. Exceeded only by what transactions of one moment touch.
  std::uint64_t cache_bytes = 256ULL << 20;
  // The blocks that a pair refers to and since when, for a map of used space that has to be made
  // anew, and for trees that are given back; none: count 0. Errors: kCorrupt.
  std::function<Result<DroppedRun>(std::string_view key, std::string_view value)> run_of;
  // Reads the whole tree at once and holds the map of used space against it (check).
  bool must_walk = false;
};

// What is known about the map of used space since Open.
struct SpaceReport {
  bool was_remade = false;         // it was damaged, or older than its checkpoint
  bool differs_from_tree = false;  // in the units of the node region; with must_walk
};

// A node that is not on the device as its parent says.
struct DamagedNode {
  std::uint64_t block = 0;
  std::uint32_t level = 0;  // 0: leaf; kPieceLevel
  std::string low, high;    // its keys lie in [low, high), `high` empty: no end
  std::string what;
};
struct VerifiedNodes {
  std::uint64_t node_count = 0;  // read
  std::vector<DamagedNode> damaged;
  std::string next;  // where to go on
  bool is_end = false;
};

class Trees;

// One tree of the volume (trees.h); what Open returns is the first fileset's.
class Store {
 public:
  virtual ~Store() = default;  // without Close: as if killed (nothing is written)

  // Writes label, copies, empty log, empty tree; durable on return. Errors: kTooSmall (below
  // kVolumeBytesMin), kExists (ours already, without overwrite), kReadOnly, the device's. Blocking.
  static Result<void> Format(BlockDevice& device, const StoreFormatOptions& options);

  // From the newest checkpoint, replays the log exactly once, writes a checkpoint under a new log
  // epoch *before* returning. Takes a read of the map of used space and of what the log touches,
  // however many keys there are; only if that map is damaged, all of the tree is read. Errors:
  // kNotOurs, kNewerVersion, kNotSupported (of an early version), kTooSmall, kCorrupt, the
  // device's. Blocking. `device` must outlive the store.
  static Result<std::unique_ptr<Store>> Open(BlockDevice& device, const Clock& clock,
                                             const StoreOpenOptions& options);
  static Result<std::unique_ptr<Store>> Open(BlockDevice& device, const Clock& clock,
                                             bool read_only);

  // Checkpoint, clean flag, stop. No call may follow. Blocking.
  virtual Result<void> Close() = 0;

  virtual StoreGeometry Geometry() const = 0;
  virtual std::uint64_t MountEpoch() const = 0;  // +1 per writable Open and per roll-back, durable
                                                 // before they return; never repeats
  virtual std::string VolumeName() const = 0;
  virtual std::vector<std::uint8_t> HandleKey()
      const = 0;  // 16 secret bytes made at format, for handle MACs

  // The value, or kNotFound. Errors: kCorrupt, the device's.
  virtual Result<std::string> Get(std::string_view key) const = 0;

  // Calls `visit` for each key in [from, to) in order (`to` empty: no end) until it returns false.
  // `visit` runs under the store's shared lock: it must be short and must not call the store. No
  // key comes twice; between two keys a commit may come in. Errors: kCorrupt, the device's: the
  // rest is unknown then.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  virtual Result<void> Scan(std::string_view from, std::string_view to,
                            const Visit& visit) const = 0;
  // The greatest key in [from, to), with its value; kNotFound. Errors: as Get.
  virtual Result<std::pair<std::string, std::string>> Last(std::string_view from,
                                                           std::string_view to) const = 0;

  // Applies in memory and appends to the open log group; does not wait for durability. May block
  // for log space, for reads, and for a checkpoint when too much of the memory is dirty. `freed`:
  // gets the dropped runs that no snapshot needs; they are free once it is durable. Errors:
  // kTooBig, kIo (read-only after a failure), kNoSpace (log or node region cannot hold it),
  // kCorrupt (also: it uses blocks that are in use, or drops some that are not), kWouldBlock
  // (Transaction::BornIn), kReadOnly (a snapshot), kStaleHandle (the tree was deleted). After an
  // error nothing is changed.
  virtual Result<Lsn> Commit(Transaction transaction, std::vector<BlockRun>* freed) = 0;
  Result<Lsn> Commit(Transaction transaction) { return Commit(std::move(transaction), nullptr); }

  // References made now are born in this epoch; it grows with every checkpoint.
  virtual std::uint64_t OpenEpoch() const = 0;
  // What was born up to it belongs to a snapshot as well, or to what this was cloned from; 0: none.
  virtual std::uint64_t SharedEpoch() const = 0;
  // All trees of the volume. Lives as long as the store that was opened.
  virtual Trees& AllTrees() = 0;
  const Trees& AllTrees() const { return const_cast<Store*>(this)->AllTrees(); }

  // Waits (polls the device) until everything up to `lsn` is durable. Errors: kIo.
  virtual Result<void> Sync(Lsn lsn) = 0;
  virtual Lsn LastLsn() const = 0;
  virtual Lsn DurableLsn() const = 0;

  // Writes a checkpoint now. Commits go on meanwhile. Blocking.
  virtual Result<void> Checkpoint() = 0;

  // Reads up to `count_max` leaves from `from` on, and what lies above and below them, from the
  // device, whatever is in memory, and verifies them. Nodes that changed since the newest
  // checkpoint are on no device yet and are passed over, and so is what a snapshot of this tree
  // has, too. Blocking. Errors: kDeviceGone, kNoMemory.
  virtual Result<VerifiedNodes> VerifyNodes(std::string_view from, std::size_t count_max) const = 0;
  // The same for what the volume keeps about its snapshots (lists.h).
  virtual Result<VerifiedNodes> VerifyLists(std::string_view from, std::size_t count_max) const = 0;

  virtual StoreCounters Counters() const = 0;
  virtual SpaceReport Space() const = 0;
  // The data area: a bit for each block from data_first_block on, set where a key refers to it.
  virtual std::vector<std::uint64_t> UsedBlocks() const = 0;
  // The failure after which nothing becomes durable any more, if there was one. Errors: kIo.
  virtual Result<void> Health() const = 0;
};

inline constexpr std::uint64_t kVolumeBytesMin = 64ULL << 20;

}  // namespace filer::engine
