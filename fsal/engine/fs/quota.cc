#include "fsal/engine/fs/quota.h"

#include <algorithm>

#include "base/units.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {
namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;

bool IsOver(std::int64_t used, std::uint64_t limit) {
  return limit != 0 && used > 0 && static_cast<std::uint64_t>(used) > limit;
}
// In blocks, which is what is counted; a limit of less than one is no room at all, not none.
bool AreBytesOver(std::int64_t blocks, std::uint64_t limit_bytes) {
  return limit_bytes != 0 && blocks > 0 &&
         static_cast<std::uint64_t>(blocks) > limit_bytes / kBlockBytes;
}

bool MayGrowTo(bool is_over_hard, bool is_over_soft, bool was_over_soft, std::int64_t deadline_ns,
               std::int64_t now_ns) {
  if (is_over_hard) return false;
  return !is_over_soft || !was_over_soft || deadline_ns == 0 || now_ns <= deadline_ns;
}

std::int64_t DeadlineAfter(std::int64_t now_ns, std::uint64_t seconds) {
  return now_ns + static_cast<std::int64_t>(seconds) * kNsPerSecond;
}

}  // namespace

void QuotaCharge::Change(QuotaId of, std::int64_t blocks, std::int64_t inodes,
                         std::uint32_t promised, QuotaRule rule) {
  if (!IsCounted(of)) return;
  auto part =
      std::find_if(parts_.begin(), parts_.end(), [&](const Part& known) { return known.of == of; });
  if (part == parts_.end()) part = parts_.insert(part, Part{of});
  part->blocks += blocks;
  part->inodes += inodes;
  part->promised += promised;
  if (rule == QuotaRule::kEnforce) part->rule = rule;
}

void QuotaCharge::Collect(const Staged& staged) {
  const InodeRecord& before = staged.node->record;
  const InodeRecord& after = staged.record;
  const std::int64_t had = staged.is_new ? 0 : 1;
  const std::int64_t has = staged.is_gone ? 0 : 1;
  const auto blocks_before = static_cast<std::int64_t>(before.blocks) * had;
  const auto blocks_after = static_cast<std::int64_t>(after.blocks) * has;
  const auto from = QuotaIdsOf(before);
  const auto to = QuotaIdsOf(after);
  const bool is_same_size = had == has && blocks_before == blocks_after;
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) {
    const std::uint32_t promised = staged.promised[kind];
    if (is_same_size && promised == 0 && from[kind] == to[kind]) continue;
    if (from[kind] == to[kind]) {
      Change(to[kind], blocks_after - blocks_before, has - had, promised, staged.quota_rule);
      continue;
    }
    if (had != 0) Change(from[kind], -blocks_before, -had, 0, QuotaRule::kExempt);
    if (has != 0) Change(to[kind], blocks_after, has, promised, staged.quota_rule);
  }
}

std::shared_lock<std::shared_mutex> QuotaTable::EnterCommit() {
  if (is_closing_.load(std::memory_order_acquire)) const std::lock_guard wait(turnstile_);
  return std::shared_lock(gate_);
}

QuotaTable::Account* QuotaTable::AccountOf(QuotaId of) {
  const auto found = accounts_.find(SlotOf(of));
  return found == accounts_.end() ? nullptr : &found->second;
}

const QuotaTable::Account* QuotaTable::AccountOf(QuotaId of) const {
  const auto found = accounts_.find(SlotOf(of));
  return found == accounts_.end() ? nullptr : &found->second;
}

bool QuotaTable::MayGrow(const Account& account, std::int64_t blocks, std::int64_t inodes) const {
  const QuotaLimits& limits = account.limits;
  const std::int64_t now = clock_.RealtimeNs();
  const std::int64_t blocks_then = account.blocks + blocks;
  const std::int64_t inodes_then = account.inodes + inodes;
  const bool may_have_blocks =
      blocks <= 0 ||
      MayGrowTo(AreBytesOver(blocks_then, limits.bytes_hard),
                AreBytesOver(blocks_then, limits.bytes_soft),
                AreBytesOver(account.blocks, limits.bytes_soft), account.deadlines.bytes_ns, now);
  const bool may_have_inodes =
      inodes <= 0 ||
      MayGrowTo(IsOver(inodes_then, limits.inodes_hard), IsOver(inodes_then, limits.inodes_soft),
                IsOver(account.inodes, limits.inodes_soft), account.deadlines.inodes_ns, now);
  return may_have_blocks && may_have_inodes;
}

// Whoever comes to be over a soft limit has the grace time from now on.
void QuotaTable::StartDeadlines(QuotaKind kind, Account& account, bool was_over_bytes,
                                bool was_over_inodes) {
  const QuotaGrace& grace = graces_[static_cast<std::size_t>(kind)];
  const bool is_over_bytes = AreBytesOver(account.blocks, account.limits.bytes_soft);
  const bool is_over_inodes = IsOver(account.inodes, account.limits.inodes_soft);
  QuotaDeadlines deadlines = account.deadlines;
  const std::int64_t now = clock_.RealtimeNs();
  if (!is_over_bytes) deadlines.bytes_ns = 0;
  if (!is_over_inodes) deadlines.inodes_ns = 0;
  if (is_over_bytes && (!was_over_bytes || deadlines.bytes_ns == 0)) {
    deadlines.bytes_ns = DeadlineAfter(now, grace.bytes_seconds);
  }
  if (is_over_inodes && (!was_over_inodes || deadlines.inodes_ns == 0)) {
    deadlines.inodes_ns = DeadlineAfter(now, grace.inodes_seconds);
  }
  if (deadlines == account.deadlines) return;
  account.deadlines = deadlines;
  account.has_unsaved_deadline = true;
}

void QuotaTable::Grow(QuotaKind kind, Account& account, std::int64_t blocks, std::int64_t inodes) {
  const bool was_over_bytes = AreBytesOver(account.blocks, account.limits.bytes_soft);
  const bool was_over_inodes = IsOver(account.inodes, account.limits.inodes_soft);
  account.blocks += blocks;
  account.inodes += inodes;
  StartDeadlines(kind, account, was_over_bytes, was_over_inodes);
}

Result<void> QuotaTable::Apply(QuotaCharge& charge, Transaction& transaction) {
  if (HasAccounts()) {
    const std::lock_guard lock(mutex_);
    for (const auto& part : charge.parts_) {
      const Account* account = AccountOf(part.of);
      if (account == nullptr || part.rule == QuotaRule::kExempt) continue;
      if (MayGrow(*account, part.blocks - part.promised, part.inodes)) continue;
      refusals_.fetch_add(1, std::memory_order_relaxed);
      return Errc::kQuotaExceeded;
    }
    for (const auto& part : charge.parts_) {
      Account* account = AccountOf(part.of);
      if (account == nullptr) continue;
      Grow(part.of.kind, *account, part.blocks - part.promised, part.inodes);
      if (!account->has_unsaved_deadline) continue;
      account->has_unsaved_deadline = false;
      charge.deadlines_.push_back(part.of);
      transaction.Put(QuotaKeyOf(QuotaPart::kDeadlines, part.of),
                      EncodeQuotaDeadlines(account->deadlines));
    }
  }
  for (const auto& part : charge.parts_) {
    if (part.blocks == 0 && part.inodes == 0) continue;
    transaction.Add(QuotaKeyOf(QuotaPart::kUsage, part.of), {part.blocks, part.inodes});
  }
  return Ok();
}

void QuotaTable::Revert(const QuotaCharge& charge) {
  if (!HasAccounts()) return;
  const std::lock_guard lock(mutex_);
  for (const auto& part : charge.parts_) {
    Account* account = AccountOf(part.of);
    if (account == nullptr) continue;
    Grow(part.of.kind, *account, part.promised - part.blocks, -part.inodes);
  }
  for (const QuotaId& of : charge.deadlines_) {
    if (Account* account = AccountOf(of); account != nullptr) account->has_unsaved_deadline = true;
  }
}

std::uint8_t QuotaTable::KindsWithAccount(const InodeRecord& record) const {
  if (!HasAccounts()) return 0;
  const std::lock_guard lock(mutex_);
  std::uint8_t kinds = 0;
  for (const QuotaId& of : QuotaIdsOf(record)) {
    const bool is_known = IsCounted(of) && AccountOf(of) != nullptr;
    if (is_known) kinds |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(of.kind));
  }
  return kinds;
}

Result<void> QuotaTable::Reserve(const InodeRecord& record, const QuotaCounts& blocks,
                                 QuotaRule rule) {
  const std::lock_guard lock(mutex_);
  const auto ids = QuotaIdsOf(record);
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) {
    if (blocks[kind] == 0 || rule == QuotaRule::kExempt) continue;
    const Account* account = AccountOf(ids[kind]);
    if (account == nullptr || MayGrow(*account, blocks[kind], 0)) continue;
    refusals_.fetch_add(1, std::memory_order_relaxed);
    return Errc::kQuotaExceeded;
  }
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) {
    Account* account = blocks[kind] == 0 ? nullptr : AccountOf(ids[kind]);
    if (account != nullptr) Grow(ids[kind].kind, *account, blocks[kind], 0);
  }
  return Ok();
}

void QuotaTable::Unreserve(const InodeRecord& record, const QuotaCounts& blocks) {
  const std::lock_guard lock(mutex_);
  const auto ids = QuotaIdsOf(record);
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) {
    Account* account = blocks[kind] == 0 ? nullptr : AccountOf(ids[kind]);
    if (account != nullptr) Grow(ids[kind].kind, *account, -std::int64_t{blocks[kind]}, 0);
  }
}

std::optional<Quota> QuotaTable::Find(QuotaId of) const {
  const std::lock_guard lock(mutex_);
  const Account* account = AccountOf(of);
  if (account == nullptr) return std::nullopt;
  Quota quota{of.kind, of.id};
  quota.used_bytes =
      static_cast<std::uint64_t>(std::max<std::int64_t>(account->blocks, 0)) * kBlockBytes;
  quota.used_inodes = static_cast<std::uint64_t>(std::max<std::int64_t>(account->inodes, 0));
  quota.limits = account->limits;
  quota.bytes_deadline_ns = account->deadlines.bytes_ns;
  quota.inodes_deadline_ns = account->deadlines.inodes_ns;
  return quota;
}

QuotaGrace QuotaTable::GraceOf(QuotaKind kind) const {
  const std::lock_guard lock(mutex_);
  return graces_[static_cast<std::size_t>(kind)];
}

std::uint64_t QuotaTable::limited_count() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint64_t>(
      std::count_if(accounts_.begin(), accounts_.end(),
                    [](const auto& entry) { return !(entry.second.limits == QuotaLimits{}); }));
}

namespace {

// The usage in the store; none: nothing.
Result<QuotaUsage> StoredUsage(const Store& store, QuotaId of) {
  const auto value = store.Get(QuotaKeyOf(QuotaPart::kUsage, of));
  if (!value.has_value()) {
    if (value.error() == Errc::kNotFound) return QuotaUsage{};
    return value.error();
  }
  return DecodeQuotaUsage(value.value());
}

}  // namespace

Result<void> QuotaTable::Load(const Store& store) {
  std::vector<std::pair<QuotaId, QuotaLimits>> limited;
  Result<void> decoded = Ok();
  FILER_TRY(store.Scan(std::string("Q") + static_cast<char>(QuotaPart::kLimits),
                       EndOfQuotas(QuotaPart::kLimits),
                       [&](std::string_view key, std::string_view value) {
                         const auto of = QuotaIdOf(key);
                         const auto limits = DecodeQuotaLimits(value);
                         if (!of.has_value()) decoded = of.error();
                         if (!limits.has_value()) decoded = limits.error();
                         if (!decoded.has_value()) return false;
                         limited.emplace_back(of.value(), limits.value());
                         return true;
                       }));
  FILER_TRY(std::move(decoded));
  const std::lock_guard lock(mutex_);
  for (const auto& [of, limits] : limited) {
    Account account;
    account.limits = limits;
    const QuotaUsage usage = FILER_TRY(StoredUsage(store, of));
    account.blocks = static_cast<std::int64_t>(usage.blocks);
    account.inodes = static_cast<std::int64_t>(usage.inodes);
    const auto deadlines = store.Get(QuotaKeyOf(QuotaPart::kDeadlines, of));
    if (deadlines.has_value()) {
      account.deadlines = FILER_TRY(DecodeQuotaDeadlines(deadlines.value()));
    } else if (deadlines.error() != Errc::kNotFound) {
      return deadlines.error();
    }
    accounts_.emplace(SlotOf(of), account);
  }
  for (std::size_t kind = 0; kind < kQuotaKinds; ++kind) {
    const auto grace = store.Get(QuotaGraceKey(static_cast<QuotaKind>(kind)));
    if (grace.has_value()) {
      graces_[kind] = FILER_TRY(DecodeQuotaGrace(grace.value()));
    } else if (grace.error() != Errc::kNotFound) {
      return grace.error();
    }
  }
  has_accounts_.store(!accounts_.empty(), std::memory_order_release);
  return Ok();
}

QuotaTable::Closed::Closed(QuotaTable& table) : table_(table) {
  table_.turnstile_.lock();
  table_.is_closing_.store(true, std::memory_order_release);
  table_.gate_.lock();
}

QuotaTable::Closed::~Closed() {
  table_.gate_.unlock();
  table_.is_closing_.store(false, std::memory_order_release);
  table_.turnstile_.unlock();
}

Result<void> QuotaTable::Closed::PrepareLimits(const Store& store, QuotaId of,
                                               const QuotaLimits& limits,
                                               Transaction& transaction) {
  of_ = of;
  std::optional<Account> known;
  {
    const std::lock_guard lock(table_.mutex_);
    const Account* account = table_.AccountOf(of);
    if (account != nullptr) known = *account;
  }
  if (known) {
    account_ = *known;
  } else {
    account_ = {};
    const QuotaUsage usage = FILER_TRY(StoredUsage(store, of));
    account_.blocks = static_cast<std::int64_t>(usage.blocks);
    account_.inodes = static_cast<std::int64_t>(usage.inodes);
  }
  account_.limits = limits;
  {
    const std::lock_guard lock(table_.mutex_);
    // An excess that goes on keeps its deadline; a new one begins now.
    table_.StartDeadlines(of.kind, account_, account_.deadlines.bytes_ns != 0,
                          account_.deadlines.inodes_ns != 0);
  }
  account_.has_unsaved_deadline = false;
  const std::string limits_key = QuotaKeyOf(QuotaPart::kLimits, of);
  const std::string deadlines_key = QuotaKeyOf(QuotaPart::kDeadlines, of);
  if (limits == QuotaLimits{}) {
    transaction.Erase(limits_key);
    transaction.Erase(deadlines_key);
  } else {
    transaction.Put(limits_key, EncodeQuotaLimits(limits));
    transaction.Put(deadlines_key, EncodeQuotaDeadlines(account_.deadlines));
  }
  return Ok();
}

// Promises may have changed since: they are not commits.
void QuotaTable::Closed::AcceptLimits() {
  const std::lock_guard lock(table_.mutex_);
  Account& account = table_.accounts_.try_emplace(SlotOf(of_), account_).first->second;
  account.limits = account_.limits;
  account.deadlines = account_.deadlines;
  account.has_unsaved_deadline = false;
  table_.has_accounts_.store(true, std::memory_order_release);
}

void QuotaTable::Closed::AcceptGrace(QuotaKind kind, QuotaGrace grace) {
  const std::lock_guard lock(table_.mutex_);
  table_.graces_[static_cast<std::size_t>(kind)] = grace;
}

}  // namespace filer::engine
