#include "fsal/engine/fs/quota_keys.h"

#include <boost/endian/conversion.hpp>
#include <cstring>
#include <limits>

#include "base/endian.h"

namespace filer::engine {
namespace {

constexpr std::size_t kKeyBytes = 7;  // Q, part, kind, id
constexpr std::uint64_t kGraceSecondsMax = 100ULL * 365 * 86400;
constexpr std::uint64_t kUsageMax = 1ULL << 62;

template <std::size_t N>
struct Words {
  le64 words[N];
};
static_assert(DiskStruct<Words<4>>);

template <std::size_t N>
std::string Encode(const std::array<std::uint64_t, N>& values) {
  Words<N> disk{};
  for (std::size_t at = 0; at < N; ++at) disk.words[at] = values[at];
  return {reinterpret_cast<const char*>(&disk), sizeof(disk)};
}

template <std::size_t N>
Result<std::array<std::uint64_t, N>> Decode(std::string_view bytes, std::uint64_t value_max,
                                            const char* what) {
  Words<N> disk;
  if (bytes.size() != sizeof(disk)) return Error(Errc::kCorrupt, what);
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  std::array<std::uint64_t, N> values;
  for (std::size_t at = 0; at < N; ++at) {
    values[at] = disk.words[at];
    if (values[at] > value_max) return Error(Errc::kCorrupt, what);
  }
  return values;
}

std::string Prefix(char part, QuotaKind kind) { return {'Q', part, static_cast<char>(kind)}; }

}  // namespace

std::string QuotaKeyOf(QuotaPart part, QuotaId of) {
  std::string key = Prefix(static_cast<char>(part), of.kind);
  const be32 id = of.id;
  key.append(reinterpret_cast<const char*>(&id), sizeof(id));
  return key;
}

std::string QuotaGraceKey(QuotaKind kind) { return Prefix('G', kind); }

std::string EndOfQuotas(QuotaPart part) {
  return {'Q', static_cast<char>(static_cast<char>(part) + 1)};
}

std::string EndOfQuotas(QuotaPart part, QuotaKind kind) {
  return {'Q', static_cast<char>(part), static_cast<char>(static_cast<char>(kind) + 1)};
}

Result<QuotaId> QuotaIdOf(std::string_view key) {
  const bool is_sound =
      key.size() == kKeyBytes && key[0] == 'Q' && static_cast<std::uint8_t>(key[2]) < kQuotaKinds;
  if (!is_sound) return Error(Errc::kCorrupt, "the key of a quota does not decode");
  return QuotaId{
      static_cast<QuotaKind>(key[2]),
      boost::endian::load_big_u32(reinterpret_cast<const unsigned char*>(key.data() + 3))};
}

Result<QuotaUsage> DecodeQuotaUsage(std::string_view bytes) {
  const auto words = FILER_TRY(Decode<2>(bytes, kUsageMax, "a quota's usage does not decode"));
  return QuotaUsage{words[0], words[1]};
}

std::string EncodeQuotaLimits(const QuotaLimits& limits) {
  return Encode<4>({limits.bytes_soft, limits.bytes_hard, limits.inodes_soft, limits.inodes_hard});
}

Result<QuotaLimits> DecodeQuotaLimits(std::string_view bytes) {
  const auto words = FILER_TRY(Decode<4>(bytes, UINT64_MAX, "a quota's limits do not decode"));
  return QuotaLimits{words[0], words[1], words[2], words[3]};
}

std::string EncodeQuotaDeadlines(const QuotaDeadlines& deadlines) {
  return Encode<2>({static_cast<std::uint64_t>(deadlines.bytes_ns),
                    static_cast<std::uint64_t>(deadlines.inodes_ns)});
}

Result<QuotaDeadlines> DecodeQuotaDeadlines(std::string_view bytes) {
  constexpr auto kTimeMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const auto words = FILER_TRY(Decode<2>(bytes, kTimeMax, "a quota's deadlines do not decode"));
  return QuotaDeadlines{static_cast<std::int64_t>(words[0]), static_cast<std::int64_t>(words[1])};
}

std::string EncodeQuotaGrace(const QuotaGrace& grace) {
  return Encode<2>({grace.bytes_seconds, grace.inodes_seconds});
}

Result<QuotaGrace> DecodeQuotaGrace(std::string_view bytes) {
  const auto words = FILER_TRY(Decode<2>(bytes, kGraceSecondsMax, "the grace times do not decode"));
  return QuotaGrace{words[0], words[1]};
}

}  // namespace filer::engine
