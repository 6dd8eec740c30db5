// repair_counts.cc: what is counted over inodes: who has an ACL, and what users, groups and
// projects use.
#include <fmt/format.h>

#include "base/endian.h"
#include "fsal/engine/check/repair_state.h"
#include "fsal/engine/fs/acl.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kModeOfOwner = 07700;

// As Transaction::Add leaves it.
std::string EncodeUsage(const QuotaUsage& usage) {
  const le64 sums[] = {usage.blocks, usage.inodes};
  return {reinterpret_cast<const char*>(sums), sizeof(sums)};
}

bool IsSoundQuota(std::string_view key, std::string_view value) {
  const char part = key.size() > 1 ? key[1] : '\0';
  if (part == 'G') {
    return key.size() == 3 && static_cast<std::uint8_t>(key[2]) < kQuotaKinds &&
           DecodeQuotaGrace(value).has_value();
  }
  const auto of = QuotaIdOf(key);
  if (!of.has_value() || !IsCounted(of.value())) return false;
  if (part == static_cast<char>(QuotaPart::kLimits)) return DecodeQuotaLimits(value).has_value();
  return part == static_cast<char>(QuotaPart::kDeadlines) &&
         DecodeQuotaDeadlines(value).has_value();
}

}  // namespace

bool Repairer::ReadAcl(std::string_view key, std::string_view value) {
  const auto id = KeyInteger(key, 0);
  auto record = DecodeAcl(value);
  if (!id.has_value() || key.size() != 9 || !record.has_value()) return false;
  const std::uint64_t distance = id.value() - AclIdOf(key_, record.value().acl);
  if (distance % kAclIdStep != 0 || distance / kAclIdStep >= kAclIdsTried) return false;
  acls_[id.value()] = std::move(record).value();
  return true;
}

bool Repairer::ReadQuota(std::string_view key, std::string_view value) {
  const auto of = QuotaIdOf(key);
  const bool is_usage = key.size() > 1 && key[1] == static_cast<char>(QuotaPart::kUsage);
  if (!is_usage) return IsSoundQuota(key, value);
  const auto usage = DecodeQuotaUsage(value);
  if (!of.has_value() || !IsCounted(of.value()) || !usage.has_value()) return false;
  usage_[of.value()] = usage.value();
  return true;
}

// Before the inodes are written. Without its list a file is its owner's alone: the mode by itself
// may allow what the list denied.
void Repairer::SettleAcls() {
  std::map<std::uint64_t, std::uint64_t> holders;
  for (auto& [number, inode] : inodes_) {
    InodeRecord& record = inode.record;
    if (record.acl == 0) continue;
    const auto found = acls_.find(record.acl);
    const bool may_have = record.kind != NodeKind::kSymlink &&
                          (record.kind == NodeKind::kDirectory || found == acls_.end() ||
                           found->second.acl.default_entries.empty());
    if (found == acls_.end() || !may_have) {
      record.acl = 0;
      record.mode &= kModeOfOwner;
      Damaged("its access control list is lost: only its owner may use it now", number);
      continue;
    }
    record.mode = ModeOf(found->second.acl, record.mode);
    ++holders[record.acl];
  }
  for (auto& [id, record] : acls_) {
    const std::uint64_t count = holders[id];
    if (record.references == count) continue;
    Mended(fmt::format("{} inodes have an ACL, recorded were {}", count, record.references),
           fmt::format("ACL {}", id));
    record.references = count;
    if (count == 0) {
      salvage_.Erase(AclKey(id));
    } else {
      Put(AclKey(id), EncodeAcl(record));
    }
  }
}

// When the inodes are as they will be.
void Repairer::WriteUsage() {
  std::map<QuotaId, QuotaUsage> counted;
  for (const auto& [number, inode] : inodes_) {
    for (const QuotaId& of : QuotaIdsOf(inode.record)) {
      if (!IsCounted(of)) continue;
      counted[of].blocks += inode.record.blocks;
      ++counted[of].inodes;
    }
  }
  for (const auto& [of, usage] : usage_) counted.try_emplace(of);
  for (const auto& [of, usage] : counted) {
    const auto recorded = usage_.find(of);
    if (recorded != usage_.end() && recorded->second == usage) continue;
    Mended(fmt::format("{} blocks and {} inodes are used, that was not what is recorded",
                       usage.blocks, usage.inodes),
           fmt::format("quota of kind {}, id {}", static_cast<int>(of.kind), of.id));
    Put(QuotaKeyOf(QuotaPart::kUsage, of), EncodeUsage(usage));
  }
}

}  // namespace filer::engine
