// pollers_test.cc: the real daemon, confined, with two pollers: two busy queues of one volume are
// shared between them, and come together again.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "tests/integration/bridge/bridge_process.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Large, so that two queues have more for a poller to copy than a driver needs time to ask for.
constexpr std::uint64_t kRequestBytes = 1 << 20;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint32_t kDepth = 32;  // of a queue
constexpr std::uint64_t kVolumeBytes = 2 * kDepth * kRequestBytes;
constexpr std::uint32_t kQueueCount = 2;

class PollersTest : public testing::Test {
 protected:
  PollersTest() {
    bridge_.Start({"--pollers", "2", "--volume",
                   fmt::format("name=main,backend=memory,size={},socket={}", kVolumeBytes,
                               bridge_.Path("socket"))});
    DiskOptions options;
    options.arena_bytes = 2 * kDepth * kRequestBytes;
    options.queue_count = kQueueCount;
    disk_ = Attach(bridge_.Path("socket"), options);
  }
  Json Pollers() const { return bridge_.Call("status")["pollers"]; }

  // Each request has a buffer and a place of its own, which it writes and reads back in turn.
  struct Slot {
    std::byte* data = nullptr;
    std::uint64_t round = 0;
    bool is_busy = false;
    bool is_read = false;
  };
  // A stamp in each page: the driver must be quicker than the poller that copies all of it.
  static void Stamp(std::byte* data, std::uint64_t stamp) {
    for (std::uint64_t at = 0; at < kRequestBytes; at += kPageBytes) {
      std::memcpy(data + at, &stamp, sizeof(stamp));
    }
  }
  static bool HasStamps(const std::byte* data, std::uint64_t stamp) {
    for (std::uint64_t at = 0; at < kRequestBytes; at += kPageBytes) {
      if (std::memcmp(data + at, &stamp, sizeof(stamp)) != 0) return false;
    }
    return true;
  }
  static std::uint64_t StampOf(std::size_t slot, std::uint64_t round) {
    return (round + 1) * 1000 + slot;
  }
  void Submit(std::uint32_t queue, std::size_t index) {
    Slot& slot = slots_[index];
    Stamp(slot.data, slot.is_read ? 0 : StampOf(index, slot.round));
    const iovec segment{slot.data, kRequestBytes};
    DiskRequest request{};
    request.operation = slot.is_read ? DiskOperation::kRead : DiskOperation::kWrite;
    request.offset_bytes = index * kRequestBytes;
    request.segments = {&segment, 1};
    request.cookie = index;
    slot.is_busy = disk_->Queue(queue).Prepare(request).has_value();
    ASSERT_TRUE(slot.is_busy);
  }
  void Finish(const DiskCompletion& completion) {
    Slot& slot = slots_[completion.cookie];
    ASSERT_TRUE(slot.is_busy && completion.is_ok);
    slot.is_busy = false;
    ++done_;
    if (slot.is_read) {
      ASSERT_TRUE(HasStamps(slot.data, StampOf(completion.cookie, slot.round)));
      ++slot.round;
    }
    slot.is_read = !slot.is_read;
  }
  // Both queues full until it is true, or for a minute.
  bool LoadUntil(const std::function<bool()>& is_true) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].data = disk_->Arena().data() + i * kRequestBytes;
    }
    const auto deadline = Clock::now() + 60s;
    auto look = Clock::now();
    bool is_over = false;
    for (std::uint64_t in_flight = 1; !is_over || in_flight > 0;) {
      in_flight = 0;
      for (std::uint32_t queue = 0; queue < kQueueCount; ++queue) {
        for (std::size_t i = queue * kDepth; i < (queue + 1) * kDepth; ++i) {
          if (!is_over && !slots_[i].is_busy) Submit(queue, i);
          if (slots_[i].is_busy) ++in_flight;
        }
        disk_->Queue(queue).Publish();
        std::array<DiskCompletion, kDepth> completions;
        const std::size_t count = disk_->Queue(queue).Poll(completions);
        for (std::size_t i = 0; i < count; ++i) Finish(completions[i]);
      }
      if (HasFatalFailure()) return false;
      ::sched_yield();
      if (Clock::now() < look) continue;
      look = Clock::now() + 20ms;
      is_over = is_over || is_true() || Clock::now() > deadline;
    }
    return is_true();
  }

  BridgeProcess bridge_;
  std::unique_ptr<Disk> disk_;
  std::array<Slot, kQueueCount * kDepth> slots_;
  std::uint64_t done_ = 0;
};

TEST_F(PollersTest, ShareTwoBusyQueuesOfOneVolume) {
  EXPECT_TRUE(LoadUntil([&] { return Pollers()[1]["borrowed"] > 0; }));
  const auto busy = Pollers()[1]["busy_polls"].get<std::uint64_t>();
  EXPECT_TRUE(LoadUntil([&] { return Pollers()[1]["busy_polls"] > busy; }) ||
              Pollers()[0]["lent"] > 1);
  const auto deadline = Clock::now() + 30s;
  while (Pollers()[0]["lent"] != Pollers()[0]["returned"] && Clock::now() < deadline) {
    std::this_thread::sleep_for(5ms);
  }
  const Json pollers = Pollers();
  EXPECT_EQ(pollers[0]["lent"], pollers[0]["returned"]) << "nothing to do, and still away";
  EXPECT_EQ(pollers[1]["lent"], 0) << "it has no volume";
  const Json counters = bridge_.Counters();
  EXPECT_EQ(counters["requests"], done_) << "of both pollers";
  EXPECT_EQ(counters["errors"], 0);
  fmt::print("{} requests; lent {} times\n", done_, pollers[0]["lent"].get<int>());
  disk_.reset();
  EXPECT_EQ(bridge_.Stop(), 0);
}

}  // namespace
}  // namespace filer::bridge
