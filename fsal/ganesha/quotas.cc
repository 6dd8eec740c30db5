#include "fsal/ganesha/quotas.h"

#include <sys/quota.h>

#include <algorithm>

namespace filer::ganesha {
namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;

std::uint64_t SecondsLeft(std::int64_t deadline_ns, std::int64_t now_ns) {
  if (deadline_ns == 0) return 0;
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>((deadline_ns - now_ns) / kNsPerSecond, 1));
}

std::uint64_t ToBytes(std::uint64_t blocks) {
  return blocks > UINT64_MAX / kQuotaBlockBytes ? UINT64_MAX : blocks * kQuotaBlockBytes;
}

// A limit below one block is not none.
std::uint64_t ToBlocks(std::uint64_t bytes) {
  return bytes == 0 ? 0 : std::max<std::uint64_t>(bytes / kQuotaBlockBytes, 1);
}

}  // namespace

std::optional<engine::QuotaKind> ToQuotaKind(int type) noexcept {
  if (type == USRQUOTA) return engine::QuotaKind::kUser;
  if (type == GRPQUOTA) return engine::QuotaKind::kGroup;
  return std::nullopt;
}

fsal_quota_t ToFsalQuota(const engine::Quota& quota, std::int64_t now_ns) noexcept {
  fsal_quota_t answer{};
  answer.bsize = kQuotaBlockBytes;
  answer.bhardlimit = ToBlocks(quota.limits.bytes_hard);
  answer.bsoftlimit = ToBlocks(quota.limits.bytes_soft);
  answer.curblocks = quota.used_bytes / kQuotaBlockBytes;
  answer.fhardlimit = quota.limits.inodes_hard;
  answer.fsoftlimit = quota.limits.inodes_soft;
  answer.curfiles = quota.used_inodes;
  answer.btimeleft = SecondsLeft(quota.bytes_deadline_ns, now_ns);
  answer.ftimeleft = SecondsLeft(quota.inodes_deadline_ns, now_ns);
  return answer;
}

engine::QuotaLimits ToQuotaLimits(const fsal_quota_t& quota) noexcept {
  engine::QuotaLimits limits;
  limits.bytes_hard = ToBytes(quota.bhardlimit);
  limits.bytes_soft = ToBytes(quota.bsoftlimit);
  limits.inodes_hard = quota.fhardlimit;
  limits.inodes_soft = quota.fsoftlimit;
  return limits;
}

bool MayAskAbout(const engine::Caller& caller, engine::QuotaKind kind, std::uint32_t id) noexcept {
  if (caller.uid == 0) return true;
  if (kind == engine::QuotaKind::kUser) return caller.uid == id;
  return caller.gid == id ||
         std::find(caller.groups.begin(), caller.groups.end(), id) != caller.groups.end();
}

}  // namespace filer::ganesha
