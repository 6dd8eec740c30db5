// A peer that tries to make the poller wait for it: others go on being served, and the poller stops
// in time.
#include <fcntl.h>

#include <future>

#include "host-bridge/target/session.h"
#include "tests/unit/host-bridge/target/session_test.h"

namespace filer::bridge {
namespace {

using virtio::VhostRequest;

constexpr std::uint64_t kFull = UINT64_MAX - 1;
constexpr auto kInTime = std::chrono::seconds(5);

// The flag belongs to the open file: this clears it for the target as well.
void LetBlock(const UniqueFd& event) {
  ASSERT_EQ(::fcntl(event.get(), F_SETFL, ::fcntl(event.get(), F_GETFL) & ~O_NONBLOCK), 0);
}

void FillAndLetBlock(const UniqueFd& event) {
  ASSERT_EQ(::write(event.get(), &kFull, sizeof(kFull)), 8);
  LetBlock(event);
}

// Gets who waits for room, or for a count, going again.
void Release(const UniqueFd& event, bool is_full) {
  std::uint64_t count = 1;
  ::fcntl(event.get(), F_SETFL, ::fcntl(event.get(), F_GETFL) | O_NONBLOCK);
  if (is_full) {
    (void)!::read(event.get(), &count, sizeof(count));
  } else {
    (void)!::write(event.get(), &count, sizeof(count));
  }
}

class HostileSessionTest : public SessionTest {
 protected:
  void ExpectStopsInTime(const UniqueFd& held) {
    auto stopped = std::async(std::launch::async, [this] { poller_->Stop(); });
    EXPECT_EQ(stopped.wait_for(kInTime), std::future_status::ready);
    Release(held, true);  // so that a failure is one, and not for ever
  }
};

TEST_F(HostileSessionTest, FullCallThatBlocksHoldsUpNobody) {
  FakeDriver driver(Path());
  driver.Start();
  ASSERT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);  // all before was executed
  FillAndLetBlock(driver.call());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  ExpectOthersAreServed();
  EXPECT_GE(counters().interrupts.Get(), 3u);
  ExpectStopsInTime(driver.call());
}

TEST_F(HostileSessionTest, FullErrorThatBlocksHoldsUpNobody) {
  FakeDriver driver(Path());
  driver.Start();
  ASSERT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
  FillAndLetBlock(driver.error());
  driver.avail()->index = 0x7000;
  driver.Publish(0);
  EXPECT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
  EXPECT_EQ(counters().protocol_errors.Get(), 1u);
  ExpectOthersAreServed();
  ExpectStopsInTime(driver.error());
}

// The poller finds the kick readable, and somebody else empties it before the poller reads it.
TEST_F(HostileSessionTest, EmptyKickThatBlocksIsNotWaitedFor) {
  auto waits = WaitSet::Create();
  ASSERT_TRUE(waits.has_value());
  auto volume =
      Volume::Create({"three", Path("three"), 1}, OpenMemoryBackend(kVolumeBytes).assume_value());
  ASSERT_TRUE(volume.has_value());
  Volume& three = *volume.assume_value();
  ASSERT_TRUE(three.Join(waits.assume_value(), 0).has_value());
  FakeDriver driver(Path("three"));
  three.Accept();
  driver.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {driver.kick().get()});
  ASSERT_TRUE(three.Visit());
  LetBlock(driver.kick());
  auto counted = std::async(std::launch::async, [&] { three.session()->CountKick(0); });
  EXPECT_EQ(counted.wait_for(kInTime), std::future_status::ready);
  Release(driver.kick(), false);
  counted.wait();
  driver.Disconnect();
  ASSERT_TRUE(three.Visit());
}

}  // namespace
}  // namespace filer::bridge
