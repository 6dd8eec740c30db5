// A peer that changes what is in use: memory with requests in flight, rings against their inflight
// table, messages out of order, descriptors by the hundred.
#include <fcntl.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "host-bridge/target/session.h"
#include "tests/unit/host-bridge/target/hung_descriptors.h"
#include "tests/unit/host-bridge/target/session_test.h"

namespace filer::bridge {
namespace {

using virtio::VhostRequest;

constexpr auto kInTime = std::chrono::seconds(5);

bool WaitUntil(const std::function<bool()>& is_true) {
  const auto deadline = std::chrono::steady_clock::now() + kInTime;
  while (!is_true() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  return is_true();
}

// Keeps requests until told to finish them, and writes to their memory then: a crash if it is gone.
struct Hold {
  std::atomic<std::uint32_t> registrations = 0;
  std::atomic<bool> is_holding = false;
  std::atomic<std::size_t> held = 0;
};

class HoldingQueue final : public BackendQueue {
 public:
  explicit HoldingQueue(Hold& hold) : hold_(hold) {}
  bool Queue(const BackendRequest& request) override {
    requests_.push_back(request);
    hold_.held = requests_.size();
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    if (hold_.is_holding || requests_.empty() || completions.empty()) return 0;
    const BackendRequest request = requests_.back();
    requests_.pop_back();
    for (const iovec& segment : request.segments) {
      if (request.operation != BackendOperation::kRead) continue;
      std::memset(segment.iov_base, 0x5a, segment.iov_len);
    }
    hold_.held = requests_.size();
    completions[0] = {request.cookie, true};
    return 1;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec> regions) override {
    EXPECT_TRUE(requests_.empty());
    if (!regions.empty()) ++hold_.registrations;
  }
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  Hold& hold_;
  std::vector<BackendRequest> requests_;
};

class HoldingBackend final : public Backend {
 public:
  explicit HoldingBackend(Hold& hold) : hold_(hold) {}
  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = kVolumeBytes;
    return info;
  }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<HoldingQueue>(hold_));
  }

 private:
  Hold& hold_;
};

// A second poller, with one volume whose requests stay in flight.
class InFlightTest : public SessionTest {
 protected:
  InFlightTest() {
    std::vector<std::unique_ptr<Volume>> volumes;
    volumes.push_back(Volume::Create({"held", Path("held"), 2},
                                     std::unique_ptr<Backend>(new HoldingBackend(hold_)))
                          .assume_value());
    holding_ = PollerGroup::Create(TestPollers(), std::move(volumes)).assume_value();
    EXPECT_TRUE(holding_->Start().has_value());
    driver_ = std::make_unique<FakeDriver>(Path("held"));
    driver_->Start();
    hold_.is_holding = true;
    driver_->Publish(driver_->Prepare(0, virtio::kRequestIn, 0, 4096));
    EXPECT_TRUE(WaitUntil([this] { return hold_.held == 1; }));
  }
  ~InFlightTest() override { hold_.is_holding = false; }
  bool HasAnswer(int timeout_ms) {
    pollfd wait{driver_->socket(), POLLIN, 0};
    return ::poll(&wait, 1, timeout_ms) == 1;
  }
  void ExpectHeldVolumeServesTheNext() {
    hold_.is_holding = false;
    FakeDriver next(Path("held"));
    next.Start();
    EXPECT_EQ(next.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  }

  Hold hold_;
  std::unique_ptr<PollerGroup> holding_;
  std::unique_ptr<FakeDriver> driver_;
};

TEST_F(InFlightTest, MemoryGoesOnlyWhenItsRequestsAreOver) {
  const FakeMemory other(1 << 20);
  virtio::VhostMemoryTable table{};
  table.region_count = 1;
  table.regions[0] = driver_->Region();
  driver_->SendRaw(static_cast<std::uint32_t>(VhostRequest::kSetMemTable),
                   std::as_bytes(std::span(&table, 1)).first(8 + 32), {other.fd()},
                   virtio::kVhostVersion | virtio::kVhostNeedReply);
  EXPECT_FALSE(HasAnswer(100));
  EXPECT_EQ(driver_->used()->index, 0);
  hold_.is_holding = false;
  EXPECT_TRUE(HasAnswer(5000));
  EXPECT_EQ(driver_->used()->index, 1);  // in the memory that it came from
  EXPECT_EQ(driver_->Data(0)[4095], 0x5a);
}

TEST_F(InFlightTest, ARegionGoesOnlyWhenItsRequestsAreOver) {
  virtio::VhostSingleRegion wire{};
  wire.region = driver_->Region();
  driver_->Send(VhostRequest::kRemMemReg, wire, {},
                virtio::kVhostVersion | virtio::kVhostNeedReply);
  EXPECT_FALSE(HasAnswer(100));
  hold_.is_holding = false;
  EXPECT_TRUE(HasAnswer(5000));
  EXPECT_EQ(driver_->used()->index, 1);
  EXPECT_EQ(driver_->Data(0)[4095], 0x5a);
  ASSERT_TRUE(driver_->Receive().has_value());
  driver_->Publish(driver_->Prepare(0, virtio::kRequestIn, 0, 512));
  EXPECT_NE(driver_->Ask(VhostRequest::kGetFeatures), UINT64_MAX);  // there is no ring to look at
}

TEST_F(InFlightTest, AQueueStopsOnlyWhenItsRequestsAreOver) {
  driver_->Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));
  EXPECT_FALSE(HasAnswer(100));
  hold_.is_holding = false;
  ASSERT_TRUE(HasAnswer(5000));
  EXPECT_EQ(driver_->used()->index, 1);
}

TEST_F(InFlightTest, AClientThatLeavesIsWaitedFor) {
  FakeMemory& memory = driver_->memory();
  driver_->Disconnect();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(hold_.held, 1u);
  hold_.is_holding = false;
  EXPECT_TRUE(WaitUntil([&] { return *memory.At<std::uint8_t>(FakeDriver::kData) == 0x5a; }));
  ExpectHeldVolumeServesTheNext();
}

TEST_F(InFlightTest, MemoryTruncatedUnderARequestEndsItsSessionOnly) {
  ASSERT_EQ(::ftruncate(driver_->memory().fd(), 0), 0);
  hold_.is_holding = false;  // the backend writes to what is gone
  EXPECT_TRUE(driver_->IsClosed());
  ExpectHeldVolumeServesTheNext();
}

// Each look at all pages of a guest costs the poller time, which others lack.
TEST_F(InFlightTest, MemoryThatMovesWithoutEndIsNotRegisteredWithoutEnd) {
  hold_.is_holding = false;
  virtio::VhostMemoryTable table{};
  table.region_count = 1;
  table.regions[0] = driver_->Region();
  for (int i = 0; i < 100; ++i) {
    driver_->SendRaw(static_cast<std::uint32_t>(VhostRequest::kSetMemTable),
                     std::as_bytes(std::span(&table, 1)).first(8 + 32), {driver_->memory().fd()},
                     virtio::kVhostVersion | virtio::kVhostNeedReply);
    ASSERT_TRUE(driver_->Receive().has_value());
  }
  EXPECT_GE(hold_.registrations, 10u);
  EXPECT_LE(hold_.registrations, kRegistrations + 2);
  EXPECT_EQ(driver_->Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);  // it goes on without
}

// --- memory that comes and goes under the poller's eyes

TEST_F(SessionTest, MemoryTruncatedAgainAndAgainHurtsNobodyElse) {
  for (int i = 0; i < 20; ++i) {
    FakeDriver driver(Path());
    driver.Start();
    std::atomic<bool> is_over = false;
    std::thread truncating([&] {
      while (!is_over) {
        (void)::ftruncate(driver.memory().fd(), 0x3000 * (i % 2));
        (void)::ftruncate(driver.memory().fd(), static_cast<off_t>(driver.memory().bytes()));
      }
    });
    const std::uint64_t one = 1;
    for (int n = 0; n < 20; ++n) {
      (void)!::write(driver.kick().get(), &one, sizeof(one));
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    is_over = true;
    truncating.join();
  }
  ExpectOthersAreServed();
  ExpectNextClientIsServed();
}

// --- queues and their inflight table

TEST_F(SessionTest, ABrokenQueueLeavesItsNeighbourAtWork) {
  FakeDriver driver(Path());
  driver.Start();
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  driver.memory().At<virtio::AvailRing>(0x9000)->index = 0x7000;
  driver.SetRing(1, 0, FakeDriver::kUser + 0x8000);
  ASSERT_TRUE(WaitUntil([this] { return counters().protocol_errors.Get() == 1; }));
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 8, 512), virtio::kStatusOk);
  EXPECT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
}

class InflightSessionTest : public SessionTest {
 protected:
  static virtio::VhostInflight Wire(std::uint16_t queues, std::uint16_t size,
                                    std::uint64_t offset = 0) {
    virtio::VhostInflight wire{};
    wire.mmap_size_bytes = UINT64_MAX;  // counts for nothing
    wire.mmap_offset = offset;
    wire.queue_count = queues;
    wire.queue_size = size;
    return wire;
  }
};

TEST_F(InflightSessionTest, ARingThatGrewBeyondItsTableEndsTheSession) {
  FakeDriver driver(Path());
  driver.Negotiate(virtio::kBlockFlush);
  const FakeMemory table(1 << 16);
  driver.Send(VhostRequest::kSetInflightFd, Wire(1, FakeDriver::kSize), {table.fd()});
  driver.ShareMemory();
  driver.SetRing(0, 0);
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));
  ASSERT_TRUE(driver.Receive().has_value());
  driver.Send(VhostRequest::kSetVringNum, FakeDriver::State(0, 2 * FakeDriver::kSize));
  driver.Send(VhostRequest::kSetVringKick, FakeDriver::U64(0), {driver.kick().get()});
  EXPECT_TRUE(driver.IsClosed());
  ExpectOthersAreServed();
  ExpectNextClientIsServed();
}

TEST_F(InflightSessionTest, ATableThatCannotBeEndsTheSession) {
  struct Case {
    virtio::VhostInflight wire;
    std::size_t file_bytes;
  };
  for (const Case& bad :
       {Case{Wire(0, 16), 1 << 16}, Case{Wire(3, 16), 1 << 16}, Case{Wire(UINT16_MAX, 16), 1 << 16},
        Case{Wire(1, 0), 1 << 16}, Case{Wire(1, 1025), 1 << 16}, Case{Wire(1, UINT16_MAX), 1 << 20},
        Case{Wire(1, 16, 8), 1 << 16}, Case{Wire(1, 16, 1 << 16), 1 << 16},
        Case{Wire(1, 16, UINT64_MAX - 63), 1 << 16}, Case{Wire(2, 1024), 32768},
        Case{Wire(1, 16), 16}}) {
    FakeDriver driver(Path());
    driver.Negotiate(0);
    const FakeMemory table(bad.file_bytes);
    driver.Send(VhostRequest::kSetInflightFd, bad.wire, {table.fd()});
    EXPECT_TRUE(driver.IsClosed()) << bad.wire.queue_count << " " << bad.wire.queue_size;
  }
  FakeDriver running(Path());
  running.Start();
  const FakeMemory table(1 << 16);
  running.Send(VhostRequest::kSetInflightFd, Wire(1, 16), {table.fd()});
  EXPECT_TRUE(running.IsClosed());
  ExpectNextClientIsServed();
}

// What the table says was taken, the ring need not have: heads are popped again, once.
TEST_F(InflightSessionTest, ATableThatLiesCostsItsOwnQueueOnly) {
  FakeDriver driver(Path());
  driver.Negotiate(virtio::kBlockFlush);
  const FakeMemory table(1 << 16);
  std::memset(table.base(), 0xff, table.bytes());
  *table.At<std::uint16_t>(8) = 1;                   // version
  *table.At<std::uint16_t>(10) = FakeDriver::kSize;  // all 16 are in flight
  driver.Send(VhostRequest::kSetInflightFd, Wire(1, FakeDriver::kSize), {table.fd()});
  driver.ShareMemory();
  driver.SetRing(0, 0);  // its descriptors are zero
  EXPECT_TRUE(driver.HasErrorSignal());
  ExpectOthersAreServed();
  driver.Disconnect();
  ExpectNextClientIsServed();
}

TEST_F(InflightSessionTest, ATruncatedTableEndsTheSession) {
  FakeDriver driver(Path());
  driver.Negotiate(virtio::kBlockFlush);
  const FakeMemory table(1 << 16);
  driver.Send(VhostRequest::kSetInflightFd, Wire(1, FakeDriver::kSize), {table.fd()});
  driver.ShareMemory();
  driver.SetRing(0, 0);
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  ASSERT_EQ(::ftruncate(table.fd(), 0), 0);
  driver.Publish(driver.Prepare(0, virtio::kRequestIn, 0, 512));
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

// --- messages and descriptors

TEST_F(SessionTest, AnyMessageInAnyOrderHurtsNobodyElse) {
  for (const bool is_started : {false, true}) {
    for (std::uint32_t request = 0; request < 45; ++request) {
      for (const std::size_t bytes : {0, 8, 20, 40, 512}) {
        FakeDriver driver(Path());
        if (is_started) driver.Start();
        const std::vector<std::byte> payload(bytes, std::byte{static_cast<unsigned char>(request)});
        driver.SendRaw(request, payload);
        driver.SendRaw(request, payload, {driver.memory().fd()});
      }
    }
  }
  ExpectOthersAreServed();
  ExpectNextClientIsServed();
}

TEST_F(SessionTest, AnotherVersionOrALogRegionEndsTheSession) {
  FakeDriver driver(Path());
  driver.SendRaw(1, {}, {}, 2);
  EXPECT_TRUE(driver.IsClosed());
  FakeDriver logging(Path());
  logging.Negotiate(0);
  logging.Send(VhostRequest::kSetLogBase, virtio::VhostInflight{}, {logging.memory().fd()});
  EXPECT_TRUE(logging.IsClosed());
  FakeDriver wanting(Path());
  wanting.Send(VhostRequest::kSetFeatures, FakeDriver::U64(virtio::kFeatureVhostLogAll));
  EXPECT_TRUE(wanting.IsClosed());
}

TEST_F(SessionTest, DescriptorsInEachPieceOfAMessageAreCountedTogether) {
  FakeDriver driver(Path());
  virtio::VhostHeader header;
  header.request = static_cast<std::uint32_t>(VhostRequest::kSetMemTable);
  header.flags = virtio::kVhostVersion;
  header.payload_bytes = 8 + 32;
  std::byte bytes[sizeof(header)];
  std::memcpy(bytes, &header, sizeof(header));
  for (const std::byte& byte : bytes) {
    SendBytes(driver.socket(), std::span(&byte, 1), driver.memory().fd());
  }
  EXPECT_TRUE(driver.IsClosed());
  ExpectNextClientIsServed();
}

std::size_t CountDescriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

TEST_F(SessionTest, NoDescriptorStaysOpen) {
  ExpectNextClientIsServed();
  const std::size_t before = CountDescriptors();
  for (int i = 0; i < 60; ++i) {
    FakeDriver driver(Path());
    const int fd = driver.memory().fd(), event = driver.kick().get();
    switch (i % 6) {
      case 0:  // more than there are regions
        driver.SendRaw(5, std::vector<std::byte>(8 + 32), {fd, fd, fd, fd, fd, fd, fd, fd});
        break;
      case 1:
        driver.Send(VhostRequest::kSetOwner, {fd, event});
        break;
      case 2:  // refused, with an answer
        driver.Negotiate(0);
        for (int n = 0; n < 20; ++n) {
          driver.Send(VhostRequest::kAddMemReg, virtio::VhostSingleRegion{}, {fd},
                      virtio::kVhostVersion | virtio::kVhostNeedReply);
          ASSERT_TRUE(driver.Receive().has_value());
        }
        break;
      case 3:  // replaced again and again
        driver.Start();
        for (int n = 0; n < 20; ++n) {
          driver.Send(VhostRequest::kSetVringCall, FakeDriver::U64(0), {event});
          driver.Send(VhostRequest::kSetVringErr, FakeDriver::U64(1), {event});
          driver.Send(VhostRequest::kSetVringKick, FakeDriver::U64(1), {event});
        }
        break;
      case 4:  // in half a message
        SendBytes(driver.socket(), std::as_bytes(std::span("abc", 3)), fd);
        break;
      default:
        driver.Start();
        driver.SendRaw(1234, {}, {event, fd});
        break;
    }
  }
  ExpectNextClientIsServed();
  EXPECT_TRUE(WaitUntil([&] { return CountDescriptors() <= before; }))
      << CountDescriptors() << " instead of " << before;
}

}  // namespace
}  // namespace filer::bridge
