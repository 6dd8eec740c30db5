// Every crash state of random runs. FILER_SEED: the first seed (1). FILER_STATES: how many states
// at least (100 000; with FILER_LONG 10^8; under the sanitizers 10 000). FILER_SECONDS: stop after
// so long (never; with FILER_LONG 12 000, before ctest does). engine_sim does the same from the
// command line, and repeats a failure.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "tests/sim/crash_run.h"

namespace filer::engine::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kStates = 10'000;
#else
constexpr std::uint64_t kStates = 100'000;
#endif

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Crash, EveryStateOfRandomRunsHoldsWhatWasAcknowledged) {
  const std::uint64_t first = EnvironmentNumber("FILER_SEED", 1);
  const bool is_long = std::getenv("FILER_LONG") != nullptr;
  const std::uint64_t states_wanted =
      EnvironmentNumber("FILER_STATES", is_long ? 100'000'000 : kStates);
  const std::uint64_t seconds = EnvironmentNumber("FILER_SECONDS", is_long ? 12'000 : UINT32_MAX);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  CrashRunCounts counts;
  for (std::uint64_t seed = first; counts.states < states_wanted; ++seed) {
    if (std::chrono::steady_clock::now() > end) break;
    const std::string wrong = RunCrashesAndShrink(CampaignSequence(seed), {}, counts);
    ASSERT_EQ(wrong, "");
  }
  std::printf("%llu operations, %llu crash states, %llu distinct, %llu of recoveries\n",
              static_cast<unsigned long long>(counts.operations),
              static_cast<unsigned long long>(counts.states),
              static_cast<unsigned long long>(counts.distinct),
              static_cast<unsigned long long>(counts.recovery_states));
  EXPECT_GT(counts.second_states, 0U);
  RecordProperty("operations", static_cast<int>(counts.operations));
  RecordProperty("crash_states", static_cast<int>(counts.states));
  RecordProperty("distinct_states", static_cast<int>(counts.distinct));
  RecordProperty("recovery_states", static_cast<int>(counts.recovery_states));
}

// A twentieth of the states, of lives whose log goes round its ring.
TEST(Crash, EveryStateWhereTheLogWrapsHoldsWhatWasAcknowledged) {
  const bool is_long = std::getenv("FILER_LONG") != nullptr;
  const std::uint64_t states_wanted =
      EnvironmentNumber("FILER_STATES", is_long ? 10'000'000 : kStates) / 20;
  CrashRunOptions options;
  options.wraps_log = true;
  CrashRunCounts counts;
  std::uint64_t lives = 0;
  for (std::uint64_t seed = EnvironmentNumber("FILER_SEED", 1); counts.states < states_wanted;
       ++seed) {
    const Sequence sequence = CampaignSequence(seed);
    lives += sequence.lives.size();
    ASSERT_EQ(RunCrashesAndShrink(sequence, options, counts), "");
  }
  std::printf("%llu lives, %llu wraps, %llu crash states\n", static_cast<unsigned long long>(lives),
              static_cast<unsigned long long>(counts.wraps),
              static_cast<unsigned long long>(counts.states));
  EXPECT_GE(counts.wraps * 2, lives);  // the others were short of changes, or mounted again
}

}  // namespace
}  // namespace filer::engine::sim
