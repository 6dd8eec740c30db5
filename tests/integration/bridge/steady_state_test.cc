// steady_state_test.cc: under load nobody rings: no doorbell, no interrupt, no copied byte, over a
// million requests by null, fewer by memory and file. Counted on both sides, where they happen.
// FILER_LONG: ten million.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/vfs.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/integration/bridge/bridge_process.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kVolumeBytes = 64 << 20;
constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint32_t kDepth = 32;

std::uint64_t LongOr(std::uint64_t count) {
  return std::getenv("FILER_LONG") != nullptr ? 10'000'000 : count;
}

class SteadyStateTest : public testing::Test {
 protected:
  // `idle_us` 0: the poller has, or acts as if it had, a core of its own.
  void Serve(const std::string& backend, const std::string& idle_us) {
    std::string volume = fmt::format("name=main,backend={},socket={}", backend, bridge_.Path("s"));
    if (backend == "file") {
      bridge_.MakeVolume("volume", kVolumeBytes);
      volume += ",path=" + bridge_.Path("volume");
    } else {
      volume += fmt::format(",size={}", kVolumeBytes);
    }
    bridge_.Start({"--idle-us", idle_us, "--volume", volume});
    DiskOptions options;
    options.arena_bytes = 16 << 20;
    disk_ = Attach(bridge_.Path("s"), options);
  }

  // So many requests, every third a write, kDepth at a time.
  void Run(std::uint64_t count, std::uint64_t memory_offset = 0) {
    DiskQueue& queue = disk_->Queue(0);
    std::array<DiskCompletion, 64> completions;
    std::uint64_t begun = 0, done = 0;
    while (done < count) {
      for (; begun < count && begun - done < kDepth; ++begun) {
        const iovec segment{
            disk_->Arena().data() + (begun % kDepth) * 2 * kBlockBytes + memory_offset,
            kBlockBytes};
        DiskRequest request{};
        request.operation = begun % 3 == 0 ? DiskOperation::kWrite : DiskOperation::kRead;
        request.offset_bytes = begun * 7919 % (kVolumeBytes / kBlockBytes) * kBlockBytes;
        request.segments = {&segment, 1};
        if (!queue.Prepare(request).has_value()) break;
      }
      queue.Publish();
      const std::size_t finished = queue.Poll(completions);
      for (std::size_t i = 0; i < finished; ++i) ASSERT_TRUE(completions[i].is_ok);
      done += finished;
      if (finished == 0) ::sched_yield();
    }
  }

  struct Counts {
    Json target;
    DiskCounters driver;
  };
  // The target's counters of a round may come a moment after its used elements.
  Counts Count() {
    std::this_thread::sleep_for(50ms);
    return {bridge_.Counters(), disk_->Counters()};
  }
  void ExpectSilence(const Counts& before, const Counts& after, std::uint64_t count) {
    const auto grew = [&](const char* key) {
      return after.target[key].get<std::uint64_t>() - before.target[key].get<std::uint64_t>();
    };
    fmt::print("{} requests: {} doorbells, {} interrupts, {} bytes copied\n", grew("requests"),
               grew("kicks"), grew("interrupts"), grew("copied_bytes"));
    EXPECT_EQ(grew("requests"), count);
    EXPECT_EQ(after.driver.requests - before.driver.requests, count);
    EXPECT_EQ(grew("kicks"), 0U);
    EXPECT_EQ(after.driver.doorbells - before.driver.doorbells, 0U);
    EXPECT_EQ(grew("interrupts"), 0U);
    EXPECT_EQ(after.driver.interrupts - before.driver.interrupts, 0U);
    EXPECT_EQ(grew("copied_bytes"), 0U);
    EXPECT_EQ(grew("errors"), 0U);
    EXPECT_EQ(grew("protocol_errors"), 0U);
  }
  void ExpectSilentFor(std::uint64_t count) {
    Run(2000);
    const Counts before = Count();
    Run(count);
    ExpectSilence(before, Count(), count);
  }

  BridgeProcess bridge_;
  std::unique_ptr<Disk> disk_;
};

TEST_F(SteadyStateTest, NullBackend) {
  Serve("null", "0");
  ExpectSilentFor(LongOr(1'000'000));
}

TEST_F(SteadyStateTest, MemoryBackend) {
  Serve("memory", "0");
  ExpectSilentFor(LongOr(200'000));
  // The transfer that stands for a device's is counted apart, and is all of the payload.
  const Json counters = bridge_.Counters();
  EXPECT_EQ(counters["transferred_bytes"], counters["read_bytes"].get<std::uint64_t>() +
                                               counters["write_bytes"].get<std::uint64_t>());
}

TEST_F(SteadyStateTest, FileBackend) {
  Serve("file", "0");
  ExpectSilentFor(20'000);
  EXPECT_EQ(bridge_.Counters()["transferred_bytes"], 0);
}

// The counters do count: each of what stays zero above.
TEST_F(SteadyStateTest, WhatIsNotSilentIsCounted) {
  Serve("file", "300");
  Run(100);
  Counts before = Count();  // the poller sleeps by now
  Run(1);
  Counts after = Count();
  EXPECT_EQ(after.target["kicks"].get<int>() - before.target["kicks"].get<int>(), 1);
  EXPECT_EQ(after.driver.doorbells - before.driver.doorbells, 1U);

  struct statfs system {};
  ASSERT_EQ(::statfs("/tmp", &system), 0);
  if (system.f_type == TMPFS_MAGIC) GTEST_SKIP() << "no direct I/O in /tmp";
  // Memory that direct I/O cannot take goes through a buffer.
  before = after;
  Run(32, 1);
  after = Count();
  EXPECT_EQ(after.target["copied_bytes"].get<std::uint64_t>() -
                before.target["copied_bytes"].get<std::uint64_t>(),
            32 * kBlockBytes);
}

}  // namespace
}  // namespace filer::bridge
