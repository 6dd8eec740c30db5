#include "workloads/bench/histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace filer::bench {

void Histogram::Merge(const Histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

std::uint64_t Histogram::Count() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

double Histogram::MiddleOf(std::size_t bucket) {
  if (bucket < kExact) return static_cast<double>(bucket);
  const auto shift = static_cast<int>(bucket / kExact) - 1;
  const auto first = static_cast<double>(kExact + bucket % kExact);
  // A bucket holds 2^shift integers from `first << shift` on.
  return std::ldexp(first, shift) + (std::ldexp(1.0, shift) - 1) / 2;
}

double Histogram::Quantile(double quantile) const {
  const std::uint64_t total = Count();
  if (total == 0) return 0;
  const double wanted = std::ceil(quantile * static_cast<double>(total));
  const auto rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, total);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= rank) return MiddleOf(i);
  }
  return MiddleOf(counts_.size() - 1);
}

}  // namespace filer::bench
