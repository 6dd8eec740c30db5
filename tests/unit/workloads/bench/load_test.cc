#include "workloads/bench/load.h"

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <set>
#include <thread>

namespace filer::bench {
namespace {

struct Done {
  std::uint64_t cookie;
  bool is_ok;
};

// Completes what was published, in order, at most `per_poll` at once.
class FakePort {
 public:
  std::size_t per_poll = 3;
  std::uint32_t room = 1000;
  bool is_failing = false;
  std::uint32_t in_flight_max = 0;
  std::uint64_t writes = 0, requests = 0, samples = 0;
  std::set<std::uint64_t> offsets;

  bool Submit(std::uint32_t slot, bool is_write, std::uint64_t offset_bytes) {
    if (prepared_.size() + published_.size() == room) return false;
    prepared_.push_back(slot);
    writes += is_write ? 1 : 0;
    ++requests;
    if (offsets.size() < 4096) offsets.insert(offset_bytes);
    in_flight_max =
        std::max(in_flight_max, static_cast<std::uint32_t>(prepared_.size() + published_.size()));
    return true;
  }
  void Publish() {
    published_.insert(published_.end(), prepared_.begin(), prepared_.end());
    prepared_.clear();
  }
  std::size_t Poll(std::span<Done> completions) {
    std::size_t count = 0;
    while (count < std::min(per_poll, completions.size()) && !published_.empty()) {
      completions[count++] = {published_.front(), !is_failing};
      published_.pop_front();
    }
    return count;
  }
  void Sample(LoadSample& sample) { sample.kicks = ++samples; }
  bool IsEmpty() const { return prepared_.empty() && published_.empty(); }

 private:
  std::deque<std::uint32_t> prepared_, published_;
};

LoadSpec Spec(Workload workload, std::uint32_t depth) {
  LoadSpec spec;
  spec.workload = workload;
  spec.depth = depth;
  spec.block_bytes = 4096;
  spec.range_bytes = 64 * 4096;
  spec.seconds = 0.02;
  spec.warm_up_seconds = 0.005;
  return spec;
}

TEST(LoadLoop, KeepsTheDepthAndDrains) {
  FakePort port;
  auto result = LoadLoop<FakePort, Done>(port, Spec(Workload::kRead, 32)).Run();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(port.in_flight_max, 32U);
  EXPECT_TRUE(port.IsEmpty());
  EXPECT_EQ(port.writes, 0U);
  EXPECT_GT(result.value().ios, 0U);
  EXPECT_LT(result.value().ios, port.requests);  // the warm-up does not count
  EXPECT_EQ(result.value().latency_ticks.Count(), result.value().ios);
  EXPECT_EQ(result.value().begin.kicks, 1U);
  EXPECT_EQ(result.value().end.kicks, 2U);
  EXPECT_GE(result.value().seconds, 0.02);
}

TEST(LoadLoop, EndsSoonAfterItWasStopped) {
  for (const bool is_answering : {true, false}) {  // the other end may have been stopped, too
    FakePort port;
    if (!is_answering) port.per_poll = 0;
    std::atomic<bool> stop = false;
    LoadSpec spec = Spec(Workload::kRead, 32);
    spec.seconds = 60;
    spec.stop = &stop;
    const auto begin = std::chrono::steady_clock::now();
    std::thread stopping([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      stop = true;
    });
    const auto result = LoadLoop<FakePort, Done>(port, spec).Run();
    stopping.join();
    ASSERT_TRUE(result.has_error());
    EXPECT_EQ(result.error(), Errc::kCancelled);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
  }
}

TEST(LoadLoop, OffsetsAreBlocksOfTheWholeRange) {
  FakePort port;
  ASSERT_TRUE((LoadLoop<FakePort, Done>(port, Spec(Workload::kRead, 8)).Run()).has_value());
  EXPECT_EQ(port.offsets.size(), 64U);
  for (const std::uint64_t offset : port.offsets) {
    EXPECT_EQ(offset % 4096, 0U);
    EXPECT_LT(offset, 64U * 4096);
  }
}

TEST(LoadLoop, MixedIsThirtyPercentWrites) {
  FakePort port;
  ASSERT_TRUE((LoadLoop<FakePort, Done>(port, Spec(Workload::kMixed, 8)).Run()).has_value());
  EXPECT_NEAR(static_cast<double>(port.writes) / static_cast<double>(port.requests), 0.3, 0.05);
}

TEST(LoadLoop, WaitsWhereThereIsLessRoomThanDepth) {
  FakePort port;
  port.room = 5;
  auto result = LoadLoop<FakePort, Done>(port, Spec(Workload::kWrite, 32)).Run();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(port.in_flight_max, 5U);
  EXPECT_EQ(port.writes, port.requests);
}

TEST(LoadLoop, AFailedRequestFailsTheRun) {
  FakePort port;
  port.is_failing = true;
  auto result = LoadLoop<FakePort, Done>(port, Spec(Workload::kRead, 1)).Run();
  ASSERT_TRUE(result.has_error());
  EXPECT_TRUE(result.error() == Errc::kIo);
}

}  // namespace
}  // namespace filer::bench
