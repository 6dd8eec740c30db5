#include "configs/command/top_sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace filer::command {
namespace {

using testing::HasSubstr;

Json Status(int pid, std::uint64_t reads, const Json& buckets) {
  return {{"pid", pid},
          {"volumes",
           {{{"name", "main"},
             {"connected", true},
             {"counters",
              {{"requests", reads}, {"reads", reads}, {"read_bytes", reads * 4096}, {"kicks", 2}}},
             {"latency", {{"read", {{"buckets", buckets}}}}}}}},
          {"poller", {{"polls", 10 * reads}, {"busy_polls", reads}, {"sleeps", 4}}}};
}

TEST(TopSample, IsWhatHappenedBetweenTheTwo) {
  // 100 slow requests at first, then 98 quick ones and two slow ones.
  const Json before = Status(7, 100, {{40, 9000, 100}});
  const Json after = Status(7, 200, {{20, 1500, 98}, {40, 9000, 102}});
  const Json sample = TopSample(before, after, 2.0);
  const Json& volume = sample["volumes"][0];
  EXPECT_EQ(volume["iops"], 50.0);
  EXPECT_EQ(volume["read_iops"], 50.0);
  EXPECT_DOUBLE_EQ(volume["mb_per_s"].get<double>(), 0.2048);
  EXPECT_EQ(volume["kicks_per_s"], 0.0);
  EXPECT_EQ(volume["latency_us"]["read"]["p50"], 1.5);
  EXPECT_EQ(volume["latency_us"]["read"]["p99"], 9.0);
  EXPECT_FALSE(volume["latency_us"].contains("write"));
  EXPECT_EQ(sample["poller"]["busy_percent"], 10.0);
  EXPECT_EQ(sample["restarted"], false);
  EXPECT_THAT(TopTable(sample), HasSubstr("1.50"));
}

TEST(TopSample, CountsFromZeroAfterARestart) {
  const Json sample =
      TopSample(Status(7, 1000, {{40, 9000, 1000}}), Status(8, 30, {{20, 1500, 30}}), 1.0);
  EXPECT_EQ(sample["restarted"], true);
  EXPECT_EQ(sample["volumes"][0]["iops"], 30.0);
  EXPECT_EQ(sample["volumes"][0]["latency_us"]["read"]["p99"], 1.5);
}

TEST(TopSample, AnIdleVolumeHasNoLatency) {
  const Json status = Status(7, 10, {{40, 9000, 10}});
  const Json sample = TopSample(status, status, 1.0);
  EXPECT_TRUE(sample["volumes"][0]["latency_us"].empty());
  EXPECT_THAT(TopTable(sample), HasSubstr("main"));
}

}  // namespace
}  // namespace filer::command
