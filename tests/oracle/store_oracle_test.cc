// The key-value core against std::map and RocksDB. FILER_OPERATIONS: how many at least (10^6; with
// FILER_LONG 10^8; under the sanitizers 5 * 10^4), spread over seeds from FILER_SEED (1) on.
// RocksDB takes twice the time of all the rest and is asked in every fifth seed.
// FILER_SECONDS: stop after so long. A failure prints its seed: FILER_SEED=that
// FILER_OPERATIONS=1 repeats it, and nothing else.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "tests/oracle/store_run.h"

namespace filer::engine::oracle {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kOperations = 50'000;
constexpr std::uint64_t kPerSeed = 5'000;
#else
constexpr std::uint64_t kOperations = 1'000'000;
constexpr std::uint64_t kPerSeed = 50'000;
#endif
constexpr std::uint64_t kSeedsPerRocks = 5;

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(StoreOracle, AnswersAsStdMapAndRocksDb) {
  InitLog("oracle", "critical");
  const bool is_long = std::getenv("FILER_LONG") != nullptr;
  const auto wanted = EnvironmentNumber("FILER_OPERATIONS", is_long ? 100'000'000 : kOperations);
  const auto seconds = EnvironmentNumber("FILER_SECONDS", is_long ? 12'000 : UINT32_MAX);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  RunCounts counts;
  for (auto seed = EnvironmentNumber("FILER_SEED", 1); counts.operations < wanted; ++seed) {
    if (std::chrono::steady_clock::now() > end) break;
    RunOptions options;
    options.seed = seed;
    options.operations = kPerSeed;
    options.with_rocks = seed % kSeedsPerRocks == 0;
    ASSERT_EQ(RunStore(options, counts), "");
  }
  const auto show = [this](const char* name, std::uint64_t count) {
    std::printf("%s %llu, ", name, static_cast<unsigned long long>(count));
    RecordProperty(name, std::to_string(count));
  };
  show("operations", counts.operations);
  show("transactions", counts.transactions);
  show("reads", counts.reads);
  show("refused_full", counts.refused_full);
  show("refused_big", counts.refused_big);
  show("checkpoints", counts.checkpoints);
  show("closes", counts.closes);
  show("kills", counts.kills);
  show("power_cuts", counts.power_cuts);
  show("undone", counts.undone);
  show("nodes_read", counts.nodes_read);
  show("keys_most", counts.keys_most);
  std::printf("\n");
  if (wanted < kOperations) return;
  // A run that never came there has shown nothing about it.
  EXPECT_GT(counts.refused_full, 0U);
  if (counts.power_cuts > 10) {  // a sanitized run has three
    EXPECT_GT(counts.undone, 0U);
  }
  EXPECT_GT(counts.nodes_read, 0U);
}

}  // namespace
}  // namespace filer::engine::oracle
