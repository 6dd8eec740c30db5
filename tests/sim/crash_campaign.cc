// What is done with the runs of crash_run.cc: which are drawn, and how a failure is shortened.
#include <fmt/format.h>

#include "tests/sim/crash_run.h"

namespace filer::engine::sim {

std::vector<std::uint32_t> Shrink(
    std::vector<std::uint32_t> indexes, std::uint32_t tries_max,
    const std::function<bool(const std::vector<std::uint32_t>&)>& fails) {
  std::uint32_t tries = 0;
  for (std::size_t part = std::max<std::size_t>(1, indexes.size() / 2); part > 0;) {
    bool is_shorter = false;
    // From the end: what comes after the failure goes at once.
    for (std::size_t end = indexes.size(); end > 0 && tries < tries_max;) {
      const std::size_t begin = end > part ? end - part : 0;
      std::vector<std::uint32_t> without(indexes.begin(),
                                         indexes.begin() + static_cast<std::ptrdiff_t>(begin));
      without.insert(without.end(), indexes.begin() + static_cast<std::ptrdiff_t>(end),
                     indexes.end());
      ++tries;
      if (fails(without)) {
        indexes = std::move(without);
        is_shorter = true;
      }
      end = begin;
    }
    if (tries >= tries_max) break;
    if (part > 1) {
      part /= 2;
    } else if (!is_shorter) {
      break;
    }
  }
  return indexes;
}

std::string RunCrashesAndShrink(const Sequence& sequence, const CrashRunOptions& options,
                                CrashRunCounts& counts) {
  constexpr std::uint32_t kTriesMax = 2000;
  const std::string wrong = RunCrashes(sequence, options, counts);
  if (wrong.empty()) return {};
  // At once: whoever loses patience with the shortening still has the seed.
  const char* how = options.wraps_log ? " --wrap" : "";
  fmt::print(stderr, "seed {}: {}\nagain: engine_sim crash{} --seed {}; shortening...\n",
             sequence.seed, wrong, how, sequence.seed);
  std::string wrong_now = wrong;
  const auto shortest = Shrink(IndexesOf(sequence), kTriesMax, [&](const auto& indexes) {
    CrashRunCounts unused;
    std::string found = RunCrashes(Subset(sequence, indexes), options, unused);
    if (found.empty()) return false;
    wrong_now = std::move(found);
    return true;
  });
  std::string text = fmt::format("seed {}: {}\nshortened to {} operations: {}\n", sequence.seed,
                                 wrong, shortest.size(), wrong_now);
  for (const auto& life : Subset(sequence, shortest).lives) {
    for (const Operation& operation : life) text += "  " + Text(operation) + "\n";
    text += "  -- the power goes\n";
  }
  return text + fmt::format("again: engine_sim crash{} --seed {} --only {}\n", how, sequence.seed,
                            shortest.empty() ? "none" : IndexesText(shortest));
}

Sequence CampaignSequence(std::uint64_t seed) {
  // One in ten is long enough for checkpoints that a filling log asks for.
  return seed % 10 == 9 ? DrawSequence(seed, 1500, 1) : DrawSequence(seed, 60, 3);
}

}  // namespace filer::engine::sim
