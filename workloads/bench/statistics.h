// statistics.h: what repetitions of one measurement say together.
#pragma once

#include <vector>

namespace filer::bench {

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

// The mean of the two middle values when their number is even. All zero without values.
Spread SpreadOf(std::vector<double> values);

}  // namespace filer::bench
