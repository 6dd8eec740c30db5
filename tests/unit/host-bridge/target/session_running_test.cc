// What a front end may not change while queues run, and that a guest which never stops asking
// cannot keep a message of its front end waiting.
#include <deque>

#include "host-bridge/target/session.h"
#include "tests/unit/host-bridge/target/session_test.h"

namespace filer::bridge {
namespace {

using virtio::VhostRequest;

class RunningSessionTest : public SessionTest {
 protected:
  static void SetFeatures(FakeDriver& driver, std::uint64_t features) {
    driver.Send(VhostRequest::kSetFeatures, FakeDriver::U64(features | virtio::kFeatureVersion1 |
                                                            virtio::kFeatureVhostProtocolFeatures));
  }
};

// A queue's ring is read as what it was started as.
TEST_F(RunningSessionTest, AnotherRingFormatEndsTheSession) {
  for (const std::uint64_t before : {std::uint64_t{0}, virtio::kFeatureRingPacked}) {
    FakeDriver driver(Path());
    driver.Start(before);
    ASSERT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
    SetFeatures(driver, before ^ virtio::kFeatureRingPacked);
    driver.Kick();
    EXPECT_TRUE(driver.IsClosed());
    EXPECT_EQ(counters().protocol_errors.Get(), before == 0 ? 1U : 2U);
    ExpectOthersAreServed();
  }
  ExpectNextClientIsServed();
}

TEST_F(RunningSessionTest, AnotherRingFormatIsFineOnceAllQueuesStand) {
  FakeDriver driver(Path());
  driver.Start(virtio::kFeatureRingPacked);
  driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));
  ASSERT_TRUE(driver.Receive().has_value());
  SetFeatures(driver, 0);
  driver.SetRing(0, 0);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
}

TEST_F(RunningSessionTest, ABaseForARunningQueueEndsTheSession) {
  FakeDriver driver(Path());
  driver.Start();
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  driver.Send(VhostRequest::kSetVringBase, FakeDriver::State(0, 0));
  EXPECT_TRUE(driver.IsClosed());
  EXPECT_EQ(counters().protocol_errors.Get(), 1U);
  ExpectOthersAreServed();
  ExpectNextClientIsServed();
}

// Keeps one request as long as others follow it: never empty under a guest that does not pause.
class LaggingQueue final : public BackendQueue {
 public:
  bool Queue(const BackendRequest& request) override {
    cookies_.push_back(request.cookie);
    has_followed_ = true;
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    const bool is_last = cookies_.size() == 1 && has_followed_;
    has_followed_ = false;
    if (cookies_.empty() || is_last) return 0;
    completions[0] = {cookies_.front(), true};
    cookies_.pop_front();
    return 1;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec>) override { EXPECT_TRUE(cookies_.empty()); }
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  std::deque<std::uint64_t> cookies_;
  bool has_followed_ = false;
};

class LaggingBackend final : public Backend {
 public:
  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = kVolumeBytes;
    return info;
  }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<LaggingQueue>());
  }
};

// A volume whose poller is the test itself, so that the guest is never late.
TEST_F(RunningSessionTest, ABusyGuestKeepsNoMessageWaiting) {
  auto waits = WaitSet::Create();
  ASSERT_TRUE(waits.has_value());
  const auto desk = Desk::Create(0);
  ASSERT_TRUE(desk.has_value());
  auto made = Volume::Create({"three", Path("three"), 1}, std::make_unique<LaggingBackend>());
  ASSERT_TRUE(made.has_value());
  Volume& volume = *made.assume_value();
  ASSERT_TRUE(volume.Join(waits.assume_value(), *desk.assume_value(), 0, 1).has_value());
  FakeDriver driver(Path("three"));
  volume.Accept();
  driver.Send(VhostRequest::kSetFeatures,
              FakeDriver::U64(virtio::kFeatureVersion1 | virtio::kFeatureVhostProtocolFeatures));
  driver.Send(VhostRequest::kSetProtocolFeatures,
              FakeDriver::U64(virtio::kProtocolReplyAck | virtio::kProtocolConfig));
  driver.ShareMemory();
  driver.SetRing(0, 0);
  while (volume.Visit()) {
  }
  std::uint16_t published = 0;
  const auto round = [&] {
    // Each head is back long before it is used again, unless requests are not taken.
    const auto unanswered = static_cast<std::uint16_t>(published - driver.used()->index);
    if (unanswered < 4) {
      driver.Publish(driver.Prepare(published % 5U, virtio::kRequestIn, 0, 512));
      ++published;
    }
    volume.Round();
    volume.Visit();
  };
  for (int i = 0; i < 20; ++i) round();
  ASSERT_GT(driver.used()->index, 10);
  ASSERT_GT(published, driver.used()->index) << "the guest is not busy";

  virtio::VhostMemoryTable table{};
  table.region_count = 1;
  table.regions[0] = driver.Region();
  driver.SendRaw(static_cast<std::uint32_t>(VhostRequest::kSetMemTable),
                 std::as_bytes(std::span(&table, 1)).first(8 + 32), {driver.memory().fd()},
                 virtio::kVhostVersion | virtio::kVhostNeedReply);
  pollfd answer{driver.socket(), POLLIN, 0};
  int rounds = 0;
  for (; rounds < 1000 && ::poll(&answer, 1, 0) == 0; ++rounds) round();
  EXPECT_LT(rounds, 10);
  const std::uint16_t used = driver.used()->index;
  for (int i = 0; i < 20; ++i) round();
  EXPECT_GT(driver.used()->index, used + 10) << "the guest is no longer served";
  driver.Disconnect();
  for (int i = 0; i < 10 && volume.session() != nullptr; ++i) {
    volume.Round();
    volume.Visit();
  }
  EXPECT_EQ(volume.session(), nullptr);
}

}  // namespace
}  // namespace filer::bridge
