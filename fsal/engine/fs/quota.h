// quota.h: who uses how much, and who may use more.
//
// Usage of every id is in the store, changed by the very transaction that changes what is counted
// (Transaction::Add: the store makes the sums in the order of the commits). An id with limits has
// an account in memory beside it: usage plus what was promised to unstable writes. Ids without
// limits cost nothing but their sums, and no operation looks for them; when a limit is set, the
// account starts from the store's sum while the gate keeps commits out. Invariant: an account's
// numbers are the store's sums plus promises plus the commits that are inside the gate. Threads:
// any. The gate is taken before the store's locks, the mutex is a leaf (node.h).
#pragma once

#include <atomic>
#include <boost/container/small_vector.hpp>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/fs/quota_keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

struct Staged;
using QuotaCounts = std::array<std::uint32_t, kQuotaKinds>;  // blocks, by kind

// What one transaction changes about usage.
class QuotaCharge {
 public:
  // The difference that `staged` makes.
  void Collect(const Staged& staged);
  bool empty() const { return parts_.empty(); }

 private:
  friend class QuotaTable;
  struct Part {
    QuotaId of;
    std::int64_t blocks = 0, inodes = 0;
    std::uint32_t promised = 0;  // of the blocks; these are in the account already
    QuotaRule rule = QuotaRule::kExempt;
  };
  void Change(QuotaId of, std::int64_t blocks, std::int64_t inodes, std::uint32_t promised,
              QuotaRule rule);
  boost::container::small_vector<Part, 4> parts_;
  std::vector<QuotaId> deadlines_;  // that the transaction stores
};

class QuotaTable {
 public:
  explicit QuotaTable(const Clock& clock) : clock_(clock) {}
  // Mount: all that have limits. Errors: the store's, kCorrupt.
  Result<void> Load(const Store& store);

  // Around the commit of a charge: shared; around a change of limits: exclusive, and no stream of
  // commits can keep it out.
  std::shared_lock<std::shared_mutex> EnterCommit();
  class Closed;

  bool HasAccounts() const { return has_accounts_.load(std::memory_order_acquire); }
  // Inside the gate. Counts, and tells the transaction. Errors: kQuotaExceeded, and nothing is
  // changed.
  Result<void> Apply(QuotaCharge& charge, Transaction& transaction);
  void Revert(const QuotaCharge& charge);  // the transaction failed

  // Promises of blocks, by the kinds that have accounts.
  std::uint8_t KindsWithAccount(const InodeRecord& record) const;
  Result<void> Reserve(const InodeRecord& record, const QuotaCounts& blocks, QuotaRule rule);
  void Unreserve(const InodeRecord& record, const QuotaCounts& blocks);

  // Nothing: it has no account.
  std::optional<Quota> Find(QuotaId of) const;
  QuotaGrace GraceOf(QuotaKind kind) const;
  std::uint64_t limited_count() const;
  std::uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }

 private:
  struct Account {
    std::int64_t blocks = 0, inodes = 0;
    QuotaLimits limits;
    QuotaDeadlines deadlines;
    bool has_unsaved_deadline = false;
  };
  static std::uint64_t SlotOf(QuotaId of) {
    return static_cast<std::uint64_t>(of.kind) << 32 | of.id;
  }
  Account* AccountOf(QuotaId of);
  const Account* AccountOf(QuotaId of) const;
  bool MayGrow(const Account& account, std::int64_t blocks, std::int64_t inodes) const;
  void Grow(QuotaKind kind, Account& account, std::int64_t blocks, std::int64_t inodes);
  void StartDeadlines(QuotaKind kind, Account& account, bool was_over_bytes, bool was_over_inodes);

  const Clock& clock_;
  std::shared_mutex gate_;
  std::mutex turnstile_;  // of the gate, while somebody waits to close it
  std::atomic<bool> is_closing_{false};
  std::atomic<bool> has_accounts_{false};
  std::atomic<std::uint64_t> refusals_{0};  // statistics, relaxed

  mutable std::mutex mutex_;  // what follows
  std::unordered_map<std::uint64_t, Account> accounts_;
  std::array<QuotaGrace, kQuotaKinds> graces_{};
};

// No commit changes usage while one exists.
class QuotaTable::Closed {
 public:
  explicit Closed(QuotaTable& table);
  ~Closed();
  Closed(const Closed&) = delete;
  Closed& operator=(const Closed&) = delete;

  // Limits of an id, from its usage as the store has it now; the transaction stores them. After the
  // commit: Accept.
  Result<void> PrepareLimits(const Store& store, QuotaId of, const QuotaLimits& limits,
                             Transaction& transaction);
  void AcceptLimits();
  void AcceptGrace(QuotaKind kind, QuotaGrace grace);

 private:
  QuotaTable& table_;
  QuotaId of_;
  Account account_;
};

}  // namespace filer::engine
