// Random operations on engine and model; then the same with the power cut somewhere in between.
#include "tests/unit/fsal/engine/fs/model.h"

#include <cstdlib>

namespace filer::engine {
namespace {

bool IsLong() { return std::getenv("FILER_LONG") != nullptr; }

TEST(Model, RandomOperationsAgree) {
  const std::uint32_t runs = IsLong() ? 200 : 3;
  for (std::uint32_t seed = 1; seed <= runs; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto device = SimDevice::Create(TestEngine::DefaultOptions()).value();
    TestEngine fs(*device);
    fs.mount_options.dirty_bytes_max = seed % 2 == 0 ? 100'000 : 64 << 20;
    fs.mount_options.cache_bytes = seed % 3 == 0 ? 1 << 20 : 256 << 20;
    fs.Format();
    fs.Mount();
    ModelDriver driver(fs, seed);
    for (int step = 1; step <= 1500; ++step) {
      driver.Step();
      if (step % 500 == 0) {
        ModelDriver::Compare(fs, driver.model, false);
        fs.Remount();
        ModelDriver::Compare(fs, driver.model, false);
      }
      if (::testing::Test::HasFailure()) FAIL() << "step " << step;
    }
    fs.Unmount();
  }
}

// The power goes after a random request; of what was not flushed, any subset is there.
void RunOneCrash(std::uint32_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  SimOptions options = TestEngine::DefaultOptions();
  options.seed = seed;
  const auto device = SimDevice::Create(options).value();
  TestEngine fs(*device);
  fs.mount_options.checkpoint_interval_ms = 1'000'000;
  fs.mount_options.dirty_bytes_max = 300'000;
  fs.Format();
  fs.Mount();
  device->CutPowerAfter(1 + random() % 900);
  ModelDriver driver(fs, seed);
  while (driver.Step() && driver.operations < 1500 && !::testing::Test::HasFailure()) {
  }
  fs.Kill();
  options.seed = seed + 1;
  for (int variant = 0; variant < 3; ++variant) {
    const auto after = SimDevice::Create(options, device->CrashImage(random())).value();
    TestEngine survivor(*after);
    survivor.Mount();
    if (::testing::Test::HasFatalFailure()) return;
    const std::string with = ModelDriver::Difference(survivor, driver.model, true);
    const std::string without = ModelDriver::Difference(survivor, driver.before, true);
    EXPECT_TRUE(with.empty() || without.empty())
        << "after " << driver.operations << " operations: " << with << " / " << without;
    survivor.Unmount();
    survivor.CheckIsSound();
  }
}

TEST(Model, PowerCutLosesNothingThatWasAcknowledged) {
  const std::uint32_t runs = IsLong() ? 5000 : 40;
  for (std::uint32_t seed = 1; seed <= runs; ++seed) {
    RunOneCrash(seed);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace filer::engine
