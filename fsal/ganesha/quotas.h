// quotas.h: the engine's quotas as Ganesha's rquota service speaks of them. Pure functions. It
// knows no projects, and counts in blocks of kQuotaBlockBytes, which is also what its clients set
// limits in.
#pragma once

#include <optional>

#include "fsal/engine/engine.h"
#include "fsal/ganesha/ganesha_headers.h"

namespace filer::ganesha {

inline constexpr std::uint64_t kQuotaBlockBytes = 1024;

// Of USRQUOTA or GRPQUOTA; nullopt for others.
std::optional<engine::QuotaKind> ToQuotaKind(int type) noexcept;
// Times are seconds that are left, as the protocol has them; 0 when the soft limit is kept, 1 when
// none is left.
fsal_quota_t ToFsalQuota(const engine::Quota& quota, std::int64_t now_ns) noexcept;
engine::QuotaLimits ToQuotaLimits(const fsal_quota_t& quota) noexcept;
// Everybody may ask about himself and his groups, root about all.
bool MayAskAbout(const engine::Caller& caller, engine::QuotaKind kind, std::uint32_t id) noexcept;

}  // namespace filer::ganesha
