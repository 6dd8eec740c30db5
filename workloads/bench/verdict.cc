#include "workloads/bench/verdict.h"

#include <fmt/format.h>

namespace filer::bench {

Verdict AtMost(std::string what, std::optional<double> value, double limit, const char* unit) {
  Verdict verdict{std::move(what), fmt::format("<= {}{}", limit, unit), "not measured", {}};
  if (!value) return verdict;
  verdict.measured = fmt::format("{:.2f}{}", *value, unit);
  verdict.is_met = *value <= limit;
  return verdict;
}

Verdict AtLeast(std::string what, std::optional<double> value, double limit, const char* unit) {
  Verdict verdict{std::move(what), fmt::format(">= {}{}", limit, unit), "not measured", {}};
  if (!value) return verdict;
  verdict.measured = fmt::format("{:.2f}{}", *value, unit);
  verdict.is_met = *value >= limit;
  return verdict;
}

std::string HumanCount(double count) {
  if (count >= 99.95e6) return fmt::format("{:.0f}M", count / 1e6);
  if (count >= 999.5e3) return fmt::format("{:.2f}M", count / 1e6);
  if (count >= 99.95e3) return fmt::format("{:.0f}K", count / 1e3);
  if (count >= 999.5) return fmt::format("{:.1f}K", count / 1e3);
  return fmt::format("{:.0f}", count);
}

std::string HumanMicroseconds(double us) {
  if (us >= 99.95) return fmt::format("{:.0f}", us);
  if (us >= 9.995) return fmt::format("{:.1f}", us);
  return fmt::format("{:.2f}", us);
}

Json VerdictsJson(const std::vector<Verdict>& verdicts) {
  Json json = Json::array();
  for (const Verdict& verdict : verdicts) {
    json.push_back({{"what", verdict.what},
                    {"target", verdict.target},
                    {"measured", verdict.measured},
                    {"met", verdict.is_met ? Json(*verdict.is_met) : Json()}});
  }
  return json;
}

std::string VerdictsText(const std::vector<Verdict>& verdicts) {
  TextRows rows = {{"Targets", "target", "measured", ""}};
  for (const Verdict& verdict : verdicts) {
    rows.push_back({"  " + verdict.what, verdict.target, verdict.measured,
                    !verdict.is_met ? "" : (*verdict.is_met ? "met" : "MISSED")});
  }
  return AlignText(rows);
}

}  // namespace filer::bench
