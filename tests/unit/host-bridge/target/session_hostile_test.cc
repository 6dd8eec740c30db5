// A peer that tries to make the poller wait for it: others go on being served, and the poller stops
// in time.
#include <fcntl.h>

#include <future>

#include "host-bridge/target/session.h"
#include "tests/unit/host-bridge/target/hung_descriptors.h"
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
  void ExpectProtocolError(std::size_t volume) {
    const auto errors = [&] {
      return poller_->volumes()[volume]->counters().protocol_errors.Get();
    };
    const auto deadline = std::chrono::steady_clock::now() + kInTime;
    while (errors() == 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(errors(), 1u);
  }
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
  ExpectProtocolError(0);
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
  const auto desk = Desk::Create(0);
  ASSERT_TRUE(desk.has_value());
  ASSERT_TRUE(three.Join(waits.assume_value(), *desk.assume_value(), 0, 1).has_value());
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

// --- descriptors whose closing, or any question to their file system, would wait for the peer

// One message in two pieces, the descriptor with the first; ours is closed in between, so that the
// target closes the last one.
void SendLast(FakeDriver& driver, VhostRequest request, const virtio::VhostU64& payload,
              UniqueFd fd) {
  std::byte bytes[sizeof(virtio::VhostHeader) + sizeof(payload)];
  virtio::VhostHeader header;
  header.request = static_cast<std::uint32_t>(request);
  header.flags = virtio::kVhostVersion;
  header.payload_bytes = sizeof(payload);
  std::memcpy(bytes, &header, sizeof(header));
  std::memcpy(bytes + sizeof(header), &payload, sizeof(payload));
  SendBytes(driver.socket(), std::span(bytes).first(3), fd.get());
  fd.Reset();
  SendBytes(driver.socket(), std::span(bytes).subspan(3), -1);
}

TEST_F(HostileSessionTest, LingeringSocketAsKickHoldsUpNobody) {
  LingeringSocket lingering;
  FakeDriver driver(Path());
  SendLast(driver, VhostRequest::kSetVringKick, FakeDriver::U64(0), lingering.Take());
  ExpectOthersAreServed();
  ExpectProtocolError(0);
  lingering.Release();
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

TEST_F(HostileSessionTest, LingeringSocketTooManyHoldsUpNobody) {
  LingeringSocket lingering;
  FakeDriver driver(Path());
  SendLast(driver, VhostRequest::kSetFeatures, FakeDriver::U64(0), lingering.Take());
  ExpectOthersAreServed();
  lingering.Release();
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

TEST_F(HostileSessionTest, LingeringSocketLeftUnreadHoldsUpNobody) {
  LingeringSocket lingering;
  FakeDriver first(Path());
  ASSERT_NE(first.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
  FakeDriver second(Path());  // waits for the first to leave
  second.SendRaw(1234, {});   // ends its session
  UniqueFd fd = lingering.Take();
  second.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {fd.get()});
  fd.Reset();
  first.Disconnect();
  ExpectProtocolError(0);
  ExpectOthersAreServed();
  lingering.Release();
  ExpectNextClientIsServed();
}

TEST_F(HostileSessionTest, StopsInTimeWhenADescriptorCannotBeClosed) {
  LingeringSocket at_work, in_backlog;
  FakeDriver first(Path());
  SendLast(first, VhostRequest::kSetVringKick, FakeDriver::U64(0), at_work.Take());
  FakeDriver second(Path());
  UniqueFd fd = in_backlog.Take();
  second.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {fd.get()});
  fd.Reset();
  ExpectOthersAreServed();
  auto stopped = std::async(std::launch::async, [this] { poller_.reset(); });
  EXPECT_EQ(stopped.wait_for(kInTime), std::future_status::ready);
}

TEST_F(HostileSessionTest, FileOfADeadFuseServerHoldsUpNobody) {
  HungFile hung(Path("hung"));
  if (hung.fd() < 0) GTEST_SKIP() << "no FUSE mounts here";
  {
    FakeDriver driver(Path());
    driver.Negotiate(0);
    virtio::VhostMemoryTable table{};
    table.region_count = 1;
    table.regions[0] = driver.Region();
    driver.SendRaw(static_cast<std::uint32_t>(VhostRequest::kSetMemTable),
                   std::as_bytes(std::span(&table, 1)).first(8 + 32), {hung.fd()});
    ExpectOthersAreServed();
    ExpectProtocolError(0);
  }
  FakeDriver kicking(Path("two"));
  kicking.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {hung.fd()});
  ExpectProtocolError(1);
  hung.Release();
  ExpectNextClientIsServed();
  ExpectOthersAreServed();
}

TEST_F(HostileSessionTest, ChannelsThatCannotBeClosedEndTheSession) {
  FakeDriver driver(Path());
  driver.Negotiate(0);
  LingeringSocket lingering;
  for (int i = 0; i < 100; ++i) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const UniqueFd ours(pair[0]), theirs(pair[1]);
    if (i == 0) {
      const UniqueFd fd = lingering.Take();
      SendBytes(ours.get(), std::as_bytes(std::span("x", 1)), fd.get());
    }
    driver.Send(VhostRequest::kSetBackendReqFd, {theirs.get()});
    if (counters().protocol_errors.Get() > 0) break;
  }
  ExpectOthersAreServed();
  ExpectProtocolError(0);
  lingering.Release();
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

}  // namespace
}  // namespace filer::bridge
