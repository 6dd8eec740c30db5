// restart_test.cc: host-bridge is killed, or replaced, under load at depth 32. Nothing that was
// acknowledged is lost, nothing older comes back, and the time until the next request completes is
// measured. FILER_LONG: 100 times.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "tests/integration/bridge/bridge_process.h"
#include "tests/integration/bridge/stamped_load.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlocks = 4096;
constexpr std::uint32_t kDepth = 32;
// Until the next request completes after a kill.
constexpr double kKilledMsTarget = 50;
// Generous: for a machine that does other things, and once more where it did so during one group
// of kills. What was measured is printed.
constexpr double kKilledMsMax = 250;
constexpr int kAttempts = 2;
constexpr double kReplacedMsMax = 5000;  // with the disk's own time to flush

int Rounds() { return std::getenv("FILER_LONG") != nullptr ? 100 : 5; }

class RestartTest : public testing::Test {
 protected:
  RestartTest() {
    bridge_.MakeVolume("volume", kBlocks * StampedLoad::kBlockBytes);
    bridge_.Start({"--volume", "name=main,backend=file,path=" + bridge_.Path("volume") +
                                   ",socket=" + bridge_.Path("socket")});
    DiskOptions options;
    options.arena_bytes = 64ULL << 20;
    disk_ = Attach(bridge_.Path("socket"), options);
    const auto seed = static_cast<std::uint64_t>(::getpid());
    fmt::print("seed {}\n", seed);
    load_ = std::make_unique<StampedLoad>(*disk_, kBlocks, kDepth, seed);
    thread_ = std::thread([this] { wrong_ = load_->Run(); });
  }
  ~RestartTest() override { EndLoad(); }

  void EndLoad() {
    if (!thread_.joinable()) return;
    load_->Stop();
    thread_.join();
  }
  // True when so many more requests completed.
  bool WaitForLoad(std::uint64_t count) const {
    const std::uint64_t goal = load_->completed() + count;
    for (int i = 0; i < 20'000 && load_->completed() < goal; ++i) {
      std::this_thread::sleep_for(1ms);
    }
    return load_->completed() >= goal;
  }
  void ExpectAllIsThere() {
    EndLoad();
    EXPECT_EQ(wrong_, "");
    ASSERT_TRUE(disk_->IsConnected());
    EXPECT_EQ(load_->VerifyDisk(), "");
    EXPECT_EQ(bridge_.Counters()["errors"], 0);
    EXPECT_EQ(bridge_.Counters()["protocol_errors"], 0);
    disk_.reset();
    EXPECT_EQ(bridge_.Stop(), 0);
    EXPECT_EQ(load_->VerifyFile(bridge_.Path("volume")), "");
  }

  BridgeProcess bridge_;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<StampedLoad> load_;
  std::thread thread_;
  std::string wrong_;
};

// Prints them; returns the median.
double Report(const std::string& what, std::vector<double> times_ms,
              const std::string& target = "") {
  std::sort(times_ms.begin(), times_ms.end());
  const double median = times_ms[times_ms.size() / 2];
  fmt::print("{}: median {:.1f} ms{}, min {:.1f}, max {:.1f}, {} times\n", what, median, target,
             times_ms.front(), times_ms.back(), times_ms.size());
  return median;
}

struct KillTimes {
  double ended_ms = 0;
  double next_ms = 0;
};

// `load` is running on it.
void KillOnce(BridgeProcess& bridge, StampedLoad& load, KillTimes& times) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, bridge.Pid(), 0)));
  ASSERT_TRUE(pidfd.is_open());
  const std::int64_t begin_ns = SystemClock().MonotonicNs();
  ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  pollfd wait{pidfd.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 10'000), 1);
  load.MarkDead();
  times.ended_ms = static_cast<double>(SystemClock().MonotonicNs() - begin_ns) / 1e6;
  std::int64_t first_ns = 0;
  for (int i = 0; i < 30'000 && first_ns == 0; ++i) {
    std::this_thread::sleep_for(1ms);
    first_ns = load.TakeFirstAfterDeath();
  }
  ASSERT_NE(first_ns, 0) << "no request completes any more";
  times.next_ms = static_cast<double>(first_ns - begin_ns) / 1e6;
}

TEST_F(RestartTest, KilledUnderLoadNothingIsLost) {
  int kills = 0;
  double median_ms = kKilledMsMax;
  for (int attempt = 0; attempt < kAttempts && median_ms >= kKilledMsMax; ++attempt) {
    std::vector<double> ended_ms, next_ms;
    for (int round = 0; round < Rounds(); ++round, ++kills) {
      ASSERT_TRUE(WaitForLoad(500 + static_cast<std::uint64_t>(round) % 7 * 100)) << wrong_;
      KillTimes times;
      ASSERT_NO_FATAL_FAILURE(KillOnce(bridge_, *load_, times));
      ended_ms.push_back(times.ended_ms);
      next_ms.push_back(times.next_ms);
    }
    Report("kill to the end of the process", ended_ms);
    median_ms =
        Report("kill to next request", next_ms, fmt::format(" (target {:.0f})", kKilledMsTarget));
  }
  RecordProperty("kill_to_next_request_median_ms", fmt::format("{:.1f}", median_ms));
  EXPECT_LT(median_ms, kKilledMsMax);
  EXPECT_EQ(bridge_.CallKeeper("status")["restarts"], kills);
  ExpectAllIsThere();
}

TEST_F(RestartTest, ReplacedUnderLoadNothingIsLost) {
  // Another file: the old program is not there any more when the next one is asked for.
  std::vector<double> gaps_ms;
  std::string before;
  for (int round = 0; round < Rounds(); ++round) {
    const std::string program = bridge_.Path(fmt::format("host-bridge-{}", round));
    std::filesystem::copy_file(FILER_PROGRAMS "/host-bridge", program);
    ASSERT_TRUE(WaitForLoad(500)) << wrong_;
    const pid_t pid = bridge_.Pid();
    load_->TakeLongestGapMs();
    bridge_.CallKeeper("upgrade", {{"program", program}});
    Json status;
    do {
      std::this_thread::sleep_for(5ms);
      status = bridge_.CallKeeper("status");
    } while (status["upgrade"]["state"] == "running");
    ASSERT_EQ(status["upgrade"]["state"], "done") << status.dump();
    ASSERT_EQ(status["program"], program);
    ASSERT_TRUE(WaitForLoad(100)) << wrong_;
    EXPECT_NE(bridge_.Pid(), pid);
    gaps_ms.push_back(load_->TakeLongestGapMs());
    if (!before.empty()) std::filesystem::remove(before);
    before = program;
  }
  EXPECT_LT(Report("longest time without a completion", gaps_ms), kReplacedMsMax);
  EXPECT_EQ(bridge_.CallKeeper("status")["restarts"], 0);
  ExpectAllIsThere();
}

TEST_F(RestartTest, AProgramThatCannotServeIsTakenBack) {
  ASSERT_TRUE(WaitForLoad(500)) << wrong_;
  // Starts, and ends: it does not know the command line.
  bridge_.CallKeeper("upgrade", {{"program", "/bin/true"}});
  Json status;
  do {
    std::this_thread::sleep_for(5ms);
    status = bridge_.CallKeeper("status");
  } while (status["upgrade"]["state"] == "running");
  EXPECT_EQ(status["upgrade"]["state"], "failed");
  EXPECT_EQ(status["program"], FILER_PROGRAMS "/host-bridge");
  ASSERT_TRUE(WaitForLoad(500)) << wrong_;
  ExpectAllIsThere();
}

}  // namespace
}  // namespace filer::bridge
