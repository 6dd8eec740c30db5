#include "fsal/engine/check/check_quota.h"

#include <array>

namespace filer::engine {
namespace {

std::string NameOf(QuotaId of) {
  static constexpr std::array<const char*, kQuotaKinds> kNames = {"user", "group", "project"};
  return std::string(kNames[static_cast<std::size_t>(of.kind)]) + " " + std::to_string(of.id);
}

std::string TextOf(const QuotaUsage& usage) {
  return std::to_string(usage.blocks) + " blocks and " + std::to_string(usage.inodes) + " inodes";
}

// What is wrong with a pair of the letter that says no usage; empty: nothing.
std::string FaultOf(std::string_view key, std::string_view value) {
  const char part = key.size() > 1 ? key[1] : '\0';
  if (part == 'G') {
    const bool is_known = key.size() == 3 && static_cast<std::uint8_t>(key[2]) < kQuotaKinds;
    if (!is_known) return "a key is malformed";
    return DecodeQuotaGrace(value).has_value() ? "" : "the grace times do not decode";
  }
  const auto of = QuotaIdOf(key);
  const bool is_limits = part == static_cast<char>(QuotaPart::kLimits);
  const bool is_known = is_limits || part == static_cast<char>(QuotaPart::kDeadlines);
  if (!of.has_value() || !is_known || !IsCounted(of.value())) return "a key is malformed";
  const bool is_sound =
      is_limits ? DecodeQuotaLimits(value).has_value() : DecodeQuotaDeadlines(value).has_value();
  return is_sound ? "" : "limits or deadlines of " + NameOf(of.value()) + " do not decode";
}

}  // namespace

void QuotaCheck::Count(const InodeRecord& record) {
  for (const QuotaId& of : QuotaIdsOf(record)) {
    if (!IsCounted(of)) continue;
    QuotaUsage& usage = counted_[of];
    usage.blocks += record.blocks;
    ++usage.inodes;
  }
}

void QuotaCheck::CompareUsage(QuotaId of, std::string_view value, const Find& find) {
  const auto recorded = DecodeQuotaUsage(value);
  if (!recorded.has_value()) return find(recorded.error().message(), NameOf(of));
  const auto counted = counted_.find(of);
  const QuotaUsage usage = counted == counted_.end() ? QuotaUsage{} : counted->second;
  if (!(recorded.value() == usage)) {
    find("uses " + TextOf(usage) + ", recorded are " + TextOf(recorded.value()), NameOf(of));
  }
  if (counted != counted_.end()) counted_.erase(counted);
}

Result<void> QuotaCheck::Compare(const Store& store, const Find& find) {
  FILER_TRY(store.Scan("Q", "R", [&](std::string_view key, std::string_view value) {
    const auto of = QuotaIdOf(key);
    const bool is_usage = of.has_value() && key[1] == static_cast<char>(QuotaPart::kUsage);
    if (is_usage && IsCounted(of.value())) {
      CompareUsage(of.value(), value, find);
    } else if (const std::string fault = FaultOf(key, value); !fault.empty()) {
      find(fault, "quotas");
    }
    return true;
  }));
  for (const auto& [of, usage] : counted_) {
    find("uses " + TextOf(usage) + ", recorded is nothing", NameOf(of));
  }
  return Ok();
}

}  // namespace filer::engine
