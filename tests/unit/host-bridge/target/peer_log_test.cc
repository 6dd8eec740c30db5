#include "host-bridge/target/peer_log.h"

#include <gtest/gtest.h>

namespace filer::bridge {
namespace {

TEST(PeerLog, WritesABurstAndThenALineNowAndThen) {
  ManualClock clock;
  PeerLog log("flooded", clock);
  for (int i = 0; i < 10'000; ++i) log.Warn("a lie");
  EXPECT_EQ(log.written(), kPeerLogLines);
  clock.AdvanceNs(3 * kPeerLogLineNs);
  for (int i = 0; i < 10'000; ++i) log.Info("left again");
  EXPECT_EQ(log.written(), kPeerLogLines + 3);
  clock.AdvanceNs(1'000'000 * kPeerLogLineNs);
  for (int i = 0; i < 10'000; ++i) log.Warn("a lie");
  EXPECT_EQ(log.written(), 2 * kPeerLogLines + 3);
}

}  // namespace
}  // namespace filer::bridge
