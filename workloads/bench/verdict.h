// verdict.h: a target beside what was measured, and the words all benchmarks share. Values; no
// threads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "workloads/bench/text_table.h"

namespace filer::bench {

struct Verdict {
  std::string what;
  std::string target;
  std::string measured;
  std::optional<bool> is_met;  // nullopt: not measured
};
// Of a value that is nullopt when it was not measured.
Verdict AtMost(std::string what, std::optional<double> value, double limit, const char* unit);
Verdict AtLeast(std::string what, std::optional<double> value, double limit, const char* unit);

Json VerdictsJson(const std::vector<Verdict>& verdicts);
std::string VerdictsText(const std::vector<Verdict>& verdicts);

std::string HumanCount(double count);      // "12.3M"
std::string HumanMicroseconds(double us);  // "1.23"

}  // namespace filer::bench
