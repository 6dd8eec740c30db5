// features_test.cc: what a volume can do besides reading and writing: holes down to the file,
// read-only, growing while it is used, limits, latencies; each by the real daemon.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/integration/bridge/bridge_process.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kVolumeBytes = 16 * kMiB;

class FeaturesTest : public testing::Test {
 protected:
  void Serve(const std::string& options = "") {
    bridge_.MakeVolume("volume", kVolumeBytes);
    Start(fmt::format("backend=file,path={}{}", bridge_.Path("volume"), options));
  }
  void Start(const std::string& options) {
    bridge_.Start(
        {"--volume", fmt::format("name=main,socket={},{}", bridge_.Path("socket"), options)});
    DiskOptions disk;
    disk.arena_bytes = 16 * kMiB;
    disk.queue_count = 2;
    disk_ = Attach(bridge_.Path("socket"), disk);
  }

  // One request, to its end.
  DiskCompletion Do(DiskOperation operation, std::uint64_t offset, std::uint64_t length) {
    const iovec segment{disk_->Arena().data(), length};
    DiskRequest request{};
    request.operation = operation;
    request.offset_bytes = offset;
    request.length_bytes = length;
    if (operation == DiskOperation::kRead || operation == DiskOperation::kWrite) {
      request.segments = {&segment, 1};
    }
    EXPECT_TRUE(disk_->Queue(0).Prepare(request).has_value());
    disk_->Queue(0).Publish();
    DiskCompletion completion{};
    while (disk_->Queue(0).Poll({&completion, 1}) == 0) ::sched_yield();
    return completion;
  }
  bool Write(std::uint64_t offset, std::uint64_t length, char byte) {
    std::memset(disk_->Arena().data(), byte, length);
    return Do(DiskOperation::kWrite, offset, length).is_ok;
  }
  // The byte that all of the range is; -1: not one byte.
  int Read(std::uint64_t offset, std::uint64_t length) {
    std::memset(disk_->Arena().data(), 0x77, length);
    if (!Do(DiskOperation::kRead, offset, length).is_ok) return -1;
    const auto* bytes = reinterpret_cast<const unsigned char*>(disk_->Arena().data());
    return std::all_of(bytes, bytes + length, [&](unsigned char at) { return at == bytes[0]; })
               ? bytes[0]
               : -1;
  }
  std::uint64_t AllocatedBytes() const {
    struct stat status {};
    ::stat(bridge_.Path("volume").c_str(), &status);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }

  BridgeProcess bridge_;
  std::unique_ptr<Disk> disk_;
};

TEST_F(FeaturesTest, DiscardPunchesAHoleInTheFile) {
  Serve();
  ASSERT_TRUE(disk_->Info().can_discard);
  ASSERT_TRUE(Write(0, 8 * kMiB, 'a'));
  ASSERT_TRUE(Do(DiskOperation::kFlush, 0, 0).is_ok);
  const std::uint64_t before = AllocatedBytes();
  ASSERT_GE(before, 8 * kMiB);
  ASSERT_TRUE(Do(DiskOperation::kDiscard, 2 * kMiB, 4 * kMiB).is_ok);
  EXPECT_LE(AllocatedBytes(), before - 4 * kMiB);
  EXPECT_EQ(Read(0, 2 * kMiB), 'a');
  EXPECT_EQ(Read(2 * kMiB, 4 * kMiB), 0);
  EXPECT_EQ(Read(6 * kMiB, 2 * kMiB), 'a');
  EXPECT_EQ(std::filesystem::file_size(bridge_.Path("volume")), kVolumeBytes);
  EXPECT_EQ(bridge_.Counters()["discards"], 1);
}

TEST_F(FeaturesTest, WriteZeroesLeavesZeroesAndTheSpace) {
  Serve();
  ASSERT_TRUE(disk_->Info().can_write_zeroes);
  ASSERT_TRUE(Write(0, 4 * kMiB, 'a'));
  ASSERT_TRUE(Do(DiskOperation::kFlush, 0, 0).is_ok);
  // Not page by page: the edges count.
  ASSERT_TRUE(Do(DiskOperation::kWriteZeroes, kMiB + 512, kMiB).is_ok);
  EXPECT_EQ(Read(kMiB, 512), 'a');
  EXPECT_EQ(Read(kMiB + 512, kMiB), 0);
  EXPECT_EQ(Read(2 * kMiB + 512, 512), 'a');
  EXPECT_GE(AllocatedBytes(), 4 * kMiB);  // without UNMAP it stays reserved
}

TEST_F(FeaturesTest, RangesBeyondTheEndAreRefused) {
  Serve();
  EXPECT_FALSE(Do(DiskOperation::kDiscard, kVolumeBytes - 4096, 8192).is_ok);
  EXPECT_FALSE(Do(DiskOperation::kWriteZeroes, kVolumeBytes, 4096).is_ok);
  EXPECT_EQ(std::filesystem::file_size(bridge_.Path("volume")), kVolumeBytes);
}

TEST_F(FeaturesTest, AReadOnlyVolumeTakesNoChange) {
  Serve(",readonly=on");
  EXPECT_TRUE(disk_->Info().is_read_only);
  EXPECT_FALSE(disk_->Info().can_discard);
  EXPECT_FALSE(Write(0, 4096, 'a'));
  EXPECT_FALSE(Do(DiskOperation::kDiscard, 0, 4096).is_ok);
  EXPECT_EQ(Read(0, 4096), 0);
  EXPECT_EQ(AllocatedBytes(), 0U);
}

TEST_F(FeaturesTest, AVolumeGrowsWhileItIsUsed) {
  Serve();
  EXPECT_FALSE(Write(kVolumeBytes, 4096, 'b'));
  std::filesystem::resize_file(bridge_.Path("volume"), 2 * kVolumeBytes);
  EXPECT_FALSE(Write(kVolumeBytes, 4096, 'b')) << "nobody said that it may be used";
  EXPECT_EQ(bridge_.Call("grow", {{"volume", "main"}})["size_bytes"], 2 * kVolumeBytes);
  for (int i = 0; i < 2000 && disk_->Info().size_bytes == kVolumeBytes; ++i) {
    std::this_thread::sleep_for(5ms);
  }
  ASSERT_EQ(disk_->Info().size_bytes, 2 * kVolumeBytes);
  EXPECT_TRUE(Write(kVolumeBytes, 4096, 'b'));
  EXPECT_EQ(Read(kVolumeBytes, 4096), 'b');
  EXPECT_TRUE(Write(2 * kVolumeBytes - 4096, 4096, 'c'));
  EXPECT_FALSE(Write(2 * kVolumeBytes, 4096, 'd'));
  EXPECT_TRUE(disk_->IsConnected());
  EXPECT_THROW(bridge_.Call("grow", {{"volume", "other"}}), std::exception);
}

TEST_F(FeaturesTest, ALimitHoldsOnAllQueuesAndCanBeLifted) {
  Start("backend=memory,size=16M,iops=400");
  std::array<std::uint64_t, 2> done{};
  std::array<std::uint32_t, 2> in_flight{};
  const auto run = [&](std::chrono::milliseconds duration) {
    done = {};
    const auto end = Clock::now() + duration;
    while (Clock::now() < end) {
      for (std::uint32_t i = 0; i < 2; ++i) {
        DiskQueue& queue = disk_->Queue(i);
        const iovec segment{disk_->Arena().data(), 4096};
        DiskRequest request{};
        request.operation = DiskOperation::kRead;
        request.segments = {&segment, 1};
        for (; in_flight[i] < 16; ++in_flight[i]) {
          ASSERT_TRUE(queue.Prepare(request).has_value());
        }
        queue.Publish();
        std::array<DiskCompletion, 32> completions;
        const auto count = static_cast<std::uint32_t>(queue.Poll(completions));
        in_flight[i] -= count;
        done[i] += count;
      }
      std::this_thread::sleep_for(1ms);
    }
  };
  run(500ms);  // with the burst of the beginning
  const auto polls = bridge_.Call("status")["poller"]["polls"].get<std::uint64_t>();
  run(2000ms);
  const std::uint64_t both = done[0] + done[1];
  EXPECT_LT(both, 900U);
  EXPECT_GT(both, 300U);  // fewer than 800 where the machine has others to serve
  // In turns: half each, but for what came together in one round.
  EXPECT_GT(std::min(done[0], done[1]) * 5, both * 2) << done[0] << " and " << done[1];
  EXPECT_GT(bridge_.Counters()["holds"], 0);
  // It sleeps meanwhile: a poller that spins does millions of rounds per second.
  const auto rounds = bridge_.Call("status")["poller"]["polls"].get<std::uint64_t>() - polls;
  fmt::print("{} requests at 400/s in 2 s: {} and {}; {} rounds of the poller\n", both, done[0],
             done[1], rounds);
  const Json limits = bridge_.Call("status")["volumes"][0]["limits"];
  EXPECT_EQ(limits["iops"], 400);
  bridge_.Call("limit", {{"volume", "main"}});
  run(500ms);
  EXPECT_GT(done[0] + done[1], 1000U) << "still held back";
  EXPECT_THROW(bridge_.Call("limit", {{"volume", "main"}, {"iops", -1}}), std::exception);
}

TEST_F(FeaturesTest, LatenciesAreCountedByOperation) {
  Serve();
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(Write(i * 4096, 4096, 'a'));
  for (std::uint64_t i = 0; i < 50; ++i) ASSERT_EQ(Read(i * 4096, 4096), 'a');
  ASSERT_TRUE(Do(DiskOperation::kFlush, 0, 0).is_ok);
  const Json latency = bridge_.Call("status")["volumes"][0]["latency"];
  EXPECT_EQ(latency["write"]["measured"], 100);
  EXPECT_EQ(latency["read"]["measured"], 50);
  EXPECT_EQ(latency["flush"]["measured"], 1);
  EXPECT_FALSE(latency.contains("discard"));
  EXPECT_GT(latency["write"]["p50_ns"], 1'000);
  EXPECT_LE(latency["write"]["p50_ns"], latency["write"]["p99_ns"]);
  EXPECT_LE(latency["write"]["p99_ns"], latency["write"]["max_ns"]);
}

}  // namespace
}  // namespace filer::bridge
