// Sixteen threads at everything at once, on a volume in memory and on a file, with checkpoints, in
// several mounts that end in order or as if killed. FILER_SEED: of the threads' draws (by the
// clock); which thread comes first is the machine's affair, so a seed repeats the load, not the
// run. FILER_SECONDS: for each device (5; with FILER_LONG 1200). FILER_THREADS: 16.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/device/sim_device.h"
#include "tests/sim/stress.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 256ULL << 20;
constexpr std::uint64_t kPoolBytes = 32ULL << 20;
constexpr int kMounts = 5;

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class Stress {
 public:
  explicit Stress(BlockDevice& device) : device_(device) {
    for (std::uint32_t number = 0; number < EnvironmentNumber("FILER_THREADS", 16); ++number) {
      threads_.emplace_back(share_, number, seed_);
    }
  }

  void Run() {
    SCOPED_TRACE("FILER_SEED=" + std::to_string(seed_));
    FormatOptions format;
    format.volume_name = "stress";
    ASSERT_TRUE(Engine::Format(device_, format).has_value());
    const bool is_long = std::getenv("FILER_LONG") != nullptr;
    const auto seconds = EnvironmentNumber("FILER_SECONDS", is_long ? 1200 : 5);
    const int mounts = is_long ? 200 : kMounts;
    for (int mount = 0; mount < mounts && !::testing::Test::HasFailure(); ++mount) {
      RunMount(mount, std::chrono::milliseconds(seconds * 1000 / mounts));
    }
    std::printf("seed %llu: %llu operations, %llu checkpoints, %lld shared names\n",
                static_cast<unsigned long long>(seed_),
                static_cast<unsigned long long>(share_.operations.load()),
                static_cast<unsigned long long>(checkpoints_),
                static_cast<long long>(share_.names.load()));
    EXPECT_GT(checkpoints_, 0U);
    EXPECT_GT(share_.operations.load(), 16U * kMounts);
  }

 private:
  void RunMount(int mount, std::chrono::milliseconds time) {
    MountOptions options;
    options.checkpoint_interval_ms = 20;
    options.dirty_bytes_max = 400'000;
    options.cache_bytes = 1 << 20;
    auto mounted = Engine::Mount(device_, SystemClock(), options);
    ASSERT_TRUE(mounted.has_value()) << mounted.error().message();
    std::unique_ptr<Engine> engine = std::move(mounted).value();
    share_.engine = engine.get();
    if (mount == 0) {
      ASSERT_EQ(share_.Prepare(), "");
      for (StressThread& thread : threads_) ASSERT_EQ(thread.Prepare(), "");
    }
    VerifyAll("after the mount");
    const auto end = std::chrono::steady_clock::now() + time;
    std::vector<std::thread> running;
    for (StressThread& thread : threads_) {
      running.emplace_back([this, &thread, end] { Work(thread, end); });
    }
    for (std::thread& thread : running) thread.join();
    ASSERT_EQ(wrong_, "");
    VerifyAll("before the end");
    const std::uint64_t inodes = engine->Counters().inodes;
    checkpoints_ += engine->Counters().checkpoints;
    if (mount % 2 == 0) {
      ASSERT_TRUE(engine->Unmount().has_value());
    } else {
      for (StressThread& thread : threads_) ASSERT_EQ(thread.Settle(), "");
    }
    share_.engine = nullptr;
    engine.reset();
    const auto report = Engine::Check(device_, true);
    ASSERT_TRUE(report.has_value()) << report.error().message();
    for (const auto& finding : report.value().findings) {
      ADD_FAILURE() << finding.what << " (" << finding.where << ", " << finding.path << ")";
    }
    EXPECT_EQ(report.value().inodes, inodes);
  }

  void Work(StressThread& thread, std::chrono::steady_clock::time_point end) {
    while (std::chrono::steady_clock::now() < end && !has_failed_.load()) {
      const std::string wrong = thread.Step();
      if (wrong.empty()) continue;
      has_failed_.store(true);
      const std::lock_guard lock(mutex_);
      if (wrong_.empty()) wrong_ = wrong;
    }
  }

  void VerifyAll(const char* when) {
    EXPECT_EQ(share_.Verify(), "") << when;
    for (StressThread& thread : threads_) EXPECT_EQ(thread.Verify(), "") << when;
  }

  BlockDevice& device_;
  const std::uint64_t seed_ = EnvironmentNumber(
      "FILER_SEED", static_cast<std::uint64_t>(SystemClock().RealtimeNs()) % 1'000'000);
  StressShare share_;
  std::vector<StressThread> threads_;
  std::atomic<bool> has_failed_{false};
  std::mutex mutex_;
  std::string wrong_;
  std::uint64_t checkpoints_ = 0;
};

TEST(EngineStress, OnMemory) {
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  options.pool_bytes = kPoolBytes;
  const auto device = SimDevice::Create(options).value();
  Stress(*device).Run();
}

TEST(EngineStress, OnAFile) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("filer-stress-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  FileDeviceOptions options;
  options.path = folder / "volume";
  options.pool_bytes = kPoolBytes;
  std::ofstream(options.path).put('\0');
  std::filesystem::resize_file(options.path, kVolumeBytes);
  {
    auto device = OpenFileDevice(options);
    ASSERT_TRUE(device.has_value()) << device.error().message();
    Stress(*device.value()).Run();
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace filer::engine::sim
