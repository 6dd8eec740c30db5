// Sessions end to end: a fake driver on a real socket, a real poller, the memory backend.
#include "host-bridge/target/session.h"

#include <atomic>
#include <thread>

#include "tests/unit/host-bridge/target/session_test.h"

namespace filer::bridge {
namespace {

using virtio::VhostRequest;

TEST_F(SessionTest, WritesAndReadsBack) {
  FakeDriver driver(Path());
  driver.Start();
  for (int i = 0; i < 4096; ++i) driver.Data(0)[i] = static_cast<std::uint8_t>(i * 5);
  ASSERT_EQ(driver.Do(virtio::kRequestOut, 8, 4096), virtio::kStatusOk);
  EXPECT_EQ(driver.LastUsedLength(), 1u);
  std::memset(driver.Data(0), 0, 4096);
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 8, 4096), virtio::kStatusOk);
  EXPECT_EQ(driver.LastUsedLength(), 4097u);
  for (int i = 0; i < 4096; ++i) ASSERT_EQ(driver.Data(0)[i], static_cast<std::uint8_t>(i * 5));
  EXPECT_EQ(driver.Do(virtio::kRequestFlush, 0, 0), virtio::kStatusOk);
  EXPECT_EQ(counters().requests.Get(), 3u);
  EXPECT_EQ(counters().Of(BackendOperation::kRead).bytes.Get(), 4096u);
  EXPECT_EQ(counters().transferred_bytes.Get(), 8192u);
  EXPECT_TRUE(driver.HasInterrupt());
}

TEST_F(SessionTest, SendsNoInterruptToADriverThatPolls) {
  FakeDriver driver(Path());
  driver.avail()->flags = virtio::kAvailNoInterrupt;
  driver.Start();
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  EXPECT_FALSE(driver.HasInterrupt());
  EXPECT_EQ(counters().interrupts.Get(), 0u);
}

TEST_F(SessionTest, WakesFromSleepOnAKick) {
  FakeDriver driver(Path());
  driver.Start(virtio::kFeatureRingEventIndex);
  const auto sleeps = [this] { return poller_->counters().sleeps.Get(); };
  std::uint64_t slept = 0;
  for (int i = 0; i < 5; ++i) {
    // On a busy machine it may take a while until it has had its turn and found nothing.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (sleeps() == slept && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_GT(sleeps(), slept) << "it does not go to sleep";
    slept = sleeps();
    ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  }
  EXPECT_GT(counters().kicks.Get(), 0u);
}

TEST_F(SessionTest, GivesTheVolumeNameAsSerial) {
  FakeDriver driver(Path());
  driver.Start();
  std::memset(driver.Data(0), 0xaa, 64);
  ASSERT_EQ(driver.Do(virtio::kRequestGetId, 0, 20), virtio::kStatusOk);
  EXPECT_STREQ(reinterpret_cast<char*>(driver.Data(0)), "one");
  EXPECT_EQ(driver.Data(0)[19], 0);
  EXPECT_EQ(driver.Data(0)[20], 0xaa);
}

TEST_F(SessionTest, RefusesWhatLiesBeyondTheEnd) {
  FakeDriver driver(Path());
  driver.Start(virtio::kBlockFlush | virtio::kBlockDiscard | virtio::kBlockWriteZeroes);
  const std::uint64_t end = kVolumeBytes / 512;
  EXPECT_EQ(driver.Do(virtio::kRequestIn, end - 1, 512), virtio::kStatusOk);
  std::memset(driver.Data(0), 0xaa, 1024);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, end - 1, 1024), virtio::kStatusIoError);
  EXPECT_EQ(driver.Data(0)[0], 0);  // zero-filled, as the used length says
  EXPECT_EQ(driver.LastUsedLength(), 1025u);
  EXPECT_EQ(driver.Do(virtio::kRequestOut, end, 512), virtio::kStatusIoError);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, UINT64_MAX / 512, 512), virtio::kStatusIoError);
  EXPECT_EQ(driver.Do(virtio::kRequestOut, UINT64_MAX, 512), virtio::kStatusIoError);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 513), virtio::kStatusIoError);
  auto* range = reinterpret_cast<virtio::RangeSegment*>(driver.Data(0));
  for (const std::uint32_t type : {virtio::kRequestDiscard, virtio::kRequestWriteZeroes}) {
    range->sector = end - 1;
    range->sector_count = 2;
    range->flags = 0;
    EXPECT_EQ(driver.Do(type, 0, 16), virtio::kStatusIoError);
    range->sector = UINT64_MAX;
    EXPECT_EQ(driver.Do(type, 0, 16), virtio::kStatusIoError);
    range->sector = 0;
    range->flags = 0x10;
    EXPECT_EQ(driver.Do(type, 0, 16), virtio::kStatusUnsupported);
    range->flags = 0;
    EXPECT_EQ(driver.Do(type, 0, 16), virtio::kStatusOk);
  }
  EXPECT_EQ(driver.Do(99, 0, 16), virtio::kStatusUnsupported);
}

TEST_F(SessionTest, BrokenQueueStopsAloneAndSignalsItsError) {
  FakeDriver driver(Path());
  driver.Start();
  driver.descriptors()[0] = {0x1234, 16, 0, 0};  // outside guest memory
  driver.Publish(0);
  EXPECT_TRUE(driver.HasErrorSignal());
  EXPECT_EQ(counters().protocol_errors.Get(), 1u);
  EXPECT_EQ(driver.used()->index, 0);
  ExpectOthersAreServed();
  driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));  // the session goes on
  ASSERT_TRUE(driver.Receive().has_value());
  driver.avail()->index = 0;
  driver.SetRing(0, 0);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
}

TEST_F(SessionTest, ServesTheNextClientAfterDeathInTheMiddle) {
  for (int i = 0; i < 5; ++i) {
    FakeDriver driver(Path());
    driver.Start();
    for (std::uint32_t n = 0; n < 5; ++n) {
      driver.Publish(driver.Prepare(n, virtio::kRequestOut, n, 512));
    }
    driver.Disconnect();
  }
  ExpectNextClientIsServed();
  EXPECT_EQ(counters().sessions.Get(), 6u);
  EXPECT_EQ(counters().protocol_errors.Get(), 0u);
}

TEST_F(SessionTest, SurvivesAClientThatTruncatesItsMemory) {
  FakeDriver driver(Path());
  driver.Start();
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  ASSERT_EQ(::ftruncate(driver.memory().fd(), 0), 0);
  driver.Kick();  // it may sleep already, and a sleeper does not look at the memory
  EXPECT_TRUE(driver.IsClosed());
  ExpectOthersAreServed();
  ExpectNextClientIsServed();
}

// Whatever the poller does when it is told to stop: a wake-up that it takes on its way to sleep
// counts, too.
TEST_F(SessionTest, StopsAtAnyMoment) {
  std::atomic<bool> is_over = false;
  std::thread busy([&] {
    while (!is_over) std::this_thread::yield();
  });
  for (int i = 0; i < 400; ++i) {
    auto backend = OpenMemoryBackend(kVolumeBytes);
    std::vector<std::unique_ptr<Volume>> volumes;
    volumes.push_back(Volume::Create({"three", Path("three"), 1}, std::move(backend).assume_value())
                          .assume_value());
    PollerGroupOptions options = TestPollers();
    options.idle_us = 200;
    auto poller = PollerGroup::Create(options, std::move(volumes)).assume_value();
    ASSERT_TRUE(poller->Start().has_value());
    std::this_thread::sleep_for(std::chrono::microseconds(100 + i));
    poller->Stop();
  }
  is_over = true;
  busy.join();
}

TEST_F(SessionTest, ReturnsTheNextAvailIndexWhenStopped) {
  FakeDriver driver(Path());
  driver.Start();
  driver.Do(virtio::kRequestIn, 0, 512);
  driver.Do(virtio::kRequestIn, 0, 512);
  driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));
  auto answer = driver.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(std::uint32_t{answer.assume_value().As<virtio::VhostVringState>()->value}, 2u);
  driver.Publish(driver.Prepare(0, virtio::kRequestIn, 0, 512));
  EXPECT_FALSE(driver.WaitUsed(3, 50));
  driver.SetRing(0, 2);
  EXPECT_TRUE(driver.WaitUsed(3));
}

TEST_F(SessionTest, DisabledQueueWaits) {
  FakeDriver driver(Path());
  driver.Start();
  driver.Send(VhostRequest::kSetVringEnable, FakeDriver::State(0, 0));
  driver.Ask(VhostRequest::kGetFeatures);
  driver.Publish(driver.Prepare(0, virtio::kRequestIn, 0, 512));
  EXPECT_FALSE(driver.WaitUsed(1, 50));
  driver.Send(VhostRequest::kSetVringEnable, FakeDriver::State(0, 1));
  EXPECT_TRUE(driver.WaitUsed(1));
}

TEST_F(SessionTest, AsksForMissingTranslationsAndUsesThem) {
  FakeDriver driver(Path());
  driver.Negotiate(virtio::kFeatureAccessPlatform);
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd ours(pair[0]), theirs(pair[1]);
  const timeval limit{5, 0};
  ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  driver.Send(VhostRequest::kSetBackendReqFd, {theirs.get()});
  driver.ShareMemory();
  driver.SetRing(0, 0, FakeDriver::kGuest);  // IOVAs here are chosen as the guest addresses
  driver.Publish(driver.Prepare(0, virtio::kRequestIn, 0, 4096));
  int misses = 0;
  while (!driver.WaitUsed(1, 20) && misses < 20) {
    auto message = virtio::ReceiveVhostMessage(ours.get());
    ASSERT_TRUE(message.has_value());
    virtio::VhostIotlb entry = *message.assume_value().As<virtio::VhostIotlb>();
    ASSERT_EQ(entry.type, static_cast<std::uint8_t>(virtio::VhostIotlbType::kMiss));
    entry.iova = entry.iova & ~std::uint64_t{0xfff};
    entry.size_bytes = 4096;
    entry.user_address = entry.iova - FakeDriver::kGuest + FakeDriver::kUser;
    entry.permission = 3;
    entry.type = static_cast<std::uint8_t>(virtio::VhostIotlbType::kUpdate);
    driver.Send(VhostRequest::kIotlbMessage, entry, {},
                virtio::kVhostVersion | virtio::kVhostNeedReply);
    ASSERT_TRUE(driver.Receive().has_value());
    ++misses;
  }
  EXPECT_EQ(driver.Status(0), virtio::kStatusOk);
  EXPECT_EQ(misses, 5);  // three ring parts, the page of header and status, the data
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 4096), virtio::kStatusOk);  // no further miss
}

TEST_F(SessionTest, InflightTableBringsBackWhatWasTaken) {
  FakeDriver driver(Path());
  driver.Negotiate(virtio::kBlockFlush);
  virtio::VhostInflight table{};
  table.queue_count = 2;
  table.queue_size = FakeDriver::kSize;
  driver.Send(VhostRequest::kGetInflightFd, table);
  auto answer = driver.Receive();
  ASSERT_TRUE(answer.has_value());
  ASSERT_EQ(answer.assume_value().fd_count, 1u);
  table = *answer.assume_value().As<virtio::VhostInflight>();
  const int fd = answer.assume_value().fds[0].get();
  // As a killed target leaves it: head 3 taken and not returned, head 0 returned.
  auto mapped = MappedFile::Map(answer.assume_value().fds[0], 0, table.mmap_size_bytes);
  ASSERT_TRUE(mapped.has_value());
  InflightTable before(mapped.assume_value().data(), FakeDriver::kSize);
  EXPECT_TRUE(before.Recover(FakeDriver::kSize, 0).empty());
  driver.Prepare(0, virtio::kRequestIn, 0, 512);
  driver.Prepare(1, virtio::kRequestIn, 0, 512);
  before.Take(3);
  before.Take(0);
  before.AddToBatch(0);
  before.FinishBatch(1);
  driver.avail()->ring[0] = 3;
  driver.avail()->ring[1] = 0;
  driver.avail()->index = 2;
  driver.used()->index = 1;
  driver.Send(VhostRequest::kSetInflightFd, table, {fd});
  driver.ShareMemory();
  driver.SetRing(0, 1);
  ASSERT_TRUE(driver.WaitUsed(2));
  EXPECT_EQ(driver.used()->ring[1].id, 3u);
  EXPECT_FALSE(driver.WaitUsed(3, 30));  // head 0 is not done again
}

// --- a peer that breaks the protocol

TEST_F(SessionTest, UnknownRequestEndsTheSession) {
  FakeDriver driver(Path());
  driver.SendRaw(1234, {});
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

TEST_F(SessionTest, WrongPayloadSizeEndsTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kSetVringNum, FakeDriver::U64(0), {});  // right: 8 bytes, size 0 wrong
  EXPECT_TRUE(driver.IsClosed());
  FakeDriver second(Path());
  second.Send(VhostRequest::kSetFeatures, virtio::VhostRegion{});
  EXPECT_TRUE(second.IsClosed());
}

TEST_F(SessionTest, HugePayloadEndsTheSession) {
  FakeDriver driver(Path());
  virtio::VhostHeader header;
  header.request = 1;
  header.flags = virtio::kVhostVersion;
  header.payload_bytes = 0x7fffffff;
  ASSERT_EQ(::send(driver.socket(), &header, sizeof(header), 0), 12);
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, HalfAMessageHoldsUpNobody) {
  FakeDriver driver(Path());
  ASSERT_EQ(::send(driver.socket(), "abc", 3, 0), 3);
  ExpectOthersAreServed();
  driver.Disconnect();
  ExpectNextClientIsServed();
}

TEST_F(SessionTest, SurplusDescriptorsEndTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kSetOwner, {driver.memory().fd()});
  EXPECT_TRUE(driver.IsClosed());
  FakeDriver second(Path());
  second.Negotiate(0);
  virtio::VhostMemoryTable table{};
  table.region_count = 2;
  table.regions[0] = second.Region();
  second.Send(VhostRequest::kSetMemTable, table, {second.memory().fd()});  // one short
  EXPECT_TRUE(second.IsClosed());
}

TEST_F(SessionTest, RegionCountBeyondTheTableEndsTheSession) {
  FakeDriver driver(Path());
  virtio::VhostMemoryTable table{};
  table.region_count = UINT32_MAX;
  driver.Send(VhostRequest::kSetMemTable, table, {driver.memory().fd()});
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, QueueIndexOutOfRangeEndsTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kSetVringNum, FakeDriver::State(2, 16));
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, BadQueueSizeEndsTheSession) {
  for (const std::uint32_t size : {0U, 3U, 2048U, 0x80000000U}) {
    FakeDriver driver(Path());
    driver.Send(VhostRequest::kSetVringNum, FakeDriver::State(0, size));
    EXPECT_TRUE(driver.IsClosed()) << size;
  }
}

TEST_F(SessionTest, ResizingARunningQueueEndsTheSession) {
  FakeDriver driver(Path());
  driver.Start();
  driver.Send(VhostRequest::kSetVringNum, FakeDriver::State(0, 8));
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, RingLargerThanItsInflightTableEndsTheSession) {
  FakeDriver driver(Path());
  driver.Negotiate(0);
  virtio::VhostInflight table{};
  table.queue_count = 1;
  table.queue_size = 8;
  driver.Send(VhostRequest::kGetInflightFd, table);
  auto answer = driver.Receive();
  ASSERT_TRUE(answer.has_value());
  table = *answer.assume_value().As<virtio::VhostInflight>();
  driver.Send(VhostRequest::kSetInflightFd, table, {answer.assume_value().fds[0].get()});
  driver.ShareMemory();
  driver.SetRing(0, 0);
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, FeatureThatWasNotOfferedEndsTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kSetFeatures, FakeDriver::U64(virtio::kFeatureInOrder));
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, MessageOfAFeatureNotNegotiatedEndsTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kGetMaxMemSlots);
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, KickThatIsNoEventFdEndsTheSession) {
  FakeDriver driver(Path());
  driver.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {driver.memory().fd()});
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, RingOutsideMemoryEndsTheSession) {
  FakeDriver driver(Path());
  driver.Negotiate(0);
  driver.ShareMemory();
  driver.SetRing(0, 0, FakeDriver::kUser + driver.memory().bytes() - 0x1000);
  EXPECT_TRUE(driver.IsClosed());
}

TEST_F(SessionTest, FailedRegionIsAnsweredWhenAReplyWasAskedFor) {
  FakeDriver driver(Path());
  driver.Negotiate(0);
  virtio::VhostSingleRegion wire{};
  wire.region = driver.Region();
  wire.region.size_bytes = driver.memory().bytes() + 1;
  driver.Send(VhostRequest::kAddMemReg, wire, {driver.memory().fd()},
              virtio::kVhostVersion | virtio::kVhostNeedReply);
  auto answer = driver.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(std::uint64_t{answer.assume_value().As<virtio::VhostU64>()->value}, 1u);
}

TEST_F(SessionTest, ConfigurationSpaceSaysCapacity) {
  FakeDriver driver(Path());
  driver.Negotiate(0);
  virtio::VhostConfig asked{};
  asked.size_bytes = 60;
  driver.SendRaw(24, std::as_bytes(std::span(&asked, 1)).first(12 + 60));
  auto answer = driver.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(std::uint32_t{answer.assume_value().header.payload_bytes}, 72u);
  virtio::BlockConfig config;
  std::memcpy(&config, answer.assume_value().payload.data() + 12, 60);
  EXPECT_EQ(std::uint64_t{config.capacity_sectors}, kVolumeBytes / 512);
  EXPECT_EQ(config.queue_count, 2);
}

}  // namespace
}  // namespace filer::bridge
