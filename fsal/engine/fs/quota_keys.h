// quota_keys.h: what the store holds about quotas. Letter Q, then
//   U kind id   usage: blocks, inodes (sums: Transaction::Add); stays when both are 0 again
//   L kind id   limits; only while there is one
//   D kind id   when soft limits that are exceeded become hard ones
//   G kind      grace times; none: QuotaGrace's
// Usage has keys of its own because every commit may change it, and limits because a mount reads
// all of them. Decoders take hostile bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

struct QuotaId {
  QuotaKind kind = QuotaKind::kUser;
  std::uint32_t id = 0;
  friend auto operator<=>(const QuotaId&, const QuotaId&) = default;
};

struct QuotaUsage {
  std::uint64_t blocks = 0, inodes = 0;
  friend bool operator==(const QuotaUsage&, const QuotaUsage&) = default;
};

struct QuotaDeadlines {
  std::int64_t bytes_ns = 0, inodes_ns = 0;  // 0: none
  friend bool operator==(const QuotaDeadlines&, const QuotaDeadlines&) = default;
};

enum class QuotaPart : char { kUsage = 'U', kLimits = 'L', kDeadlines = 'D' };
std::string QuotaKeyOf(QuotaPart part, QuotaId of);
std::string QuotaGraceKey(QuotaKind kind);
// First key after those of the part (and kind).
std::string EndOfQuotas(QuotaPart part);
std::string EndOfQuotas(QuotaPart part, QuotaKind kind);
// Of a key that QuotaKeyOf may have made. Errors: kCorrupt.
Result<QuotaId> QuotaIdOf(std::string_view key);

Result<QuotaUsage> DecodeQuotaUsage(std::string_view bytes);
std::string EncodeQuotaLimits(const QuotaLimits& limits);
Result<QuotaLimits> DecodeQuotaLimits(std::string_view bytes);
std::string EncodeQuotaDeadlines(const QuotaDeadlines& deadlines);
Result<QuotaDeadlines> DecodeQuotaDeadlines(std::string_view bytes);
std::string EncodeQuotaGrace(const QuotaGrace& grace);
Result<QuotaGrace> DecodeQuotaGrace(std::string_view bytes);

// What a node counts for; a project of 0 is none.
template <typename Record>
std::array<QuotaId, kQuotaKinds> QuotaIdsOf(const Record& record) {
  return {QuotaId{QuotaKind::kUser, record.uid}, QuotaId{QuotaKind::kGroup, record.gid},
          QuotaId{QuotaKind::kProject, record.project}};
}
inline bool IsCounted(const QuotaId& of) { return of.kind != QuotaKind::kProject || of.id != 0; }

}  // namespace filer::engine
