#include "fsal/engine/log/log_writer.h"

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "tests/unit/fsal/engine/log/log_test.h"

namespace filer::engine {
namespace {

std::unique_ptr<SimDevice> Device(SimOptions options = {}) {
  return SimDevice::Create(options).value();
}

TEST(LogWriter, WritesNothingUntilSomebodyWaits) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  EXPECT_EQ(log->TryAppend("one"), 1U);
  EXPECT_EQ(log->TryAppend("two"), 2U);
  EXPECT_EQ(device->RequestCount(), 0U);
  EXPECT_EQ(log->DurableLsn(), 0U);
  ASSERT_TRUE(log->Sync(2).has_value());
  EXPECT_EQ(device->RequestCount(), 2U);  // one write, one FLUSH
  EXPECT_EQ(log->DurableLsn(), 2U);
  EXPECT_TRUE(log->Sync(3).error() == Errc::kInvalidArgument);
  EXPECT_EQ(ReplayAll(*device, Head()).value(), "onetwo");
}

TEST(LogWriter, CountsTheWaitsOfThoseWhoHadToWait) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  EXPECT_EQ(log->Counters().sync.count, 0U);
  for (std::uint64_t lsn = 1; lsn <= 3; ++lsn) {
    ASSERT_EQ(log->TryAppend("one"), lsn);
    ASSERT_TRUE(log->Sync(lsn).has_value());
  }
  ASSERT_TRUE(log->Sync(3).has_value());  // durable already
  const LogCounters counters = log->Counters();
  EXPECT_EQ(counters.sync.count, 3U);
  EXPECT_GT(counters.sync.p50_ns, 0U);
  EXPECT_GE(counters.sync.max_ns, counters.sync.p50_ns);
}

TEST(LogWriter, StaysInItsRingAndRefusesWhenFull) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  device->SetStepHook([](SimDevice&, const BlockRequest& request) {
    if (request.operation != BlockOperation::kWrite) return;
    EXPECT_GE(request.offset_bytes, kRing.first_block * 4096);
    EXPECT_LE(request.offset_bytes + request.length_bytes,
              (kRing.first_block + kRing.block_count) * 4096);
  });
  std::mt19937_64 random(1);
  std::uint64_t appended = 0;
  std::string kept;
  LogWriter::CutPoint cut;
  for (int lap = 0; lap < 12; ++lap) {
    for (;;) {
      const std::string transaction(1 + random() % 400'000, static_cast<char>('a' + lap));
      const bool has_room = log->HasRoom(transaction.size());
      const auto lsn = log->TryAppend(transaction);
      EXPECT_EQ(lsn.has_value(), has_room);
      if (!lsn) break;
      EXPECT_EQ(*lsn, ++appended);
      kept += transaction;
      if (random() % 2 == 0) {
        ASSERT_TRUE(log->Sync(*lsn).has_value());
      }
      EXPECT_LE(log->UsedBytes(), kRing.block_count * 4096);
    }
    ASSERT_TRUE(log->Sync(appended).has_value());
    auto head = Head(5, cut.lsn + 1);
    head.position = cut.position;
    head.prev_crc32c = cut.prev_crc32c;
    ReplayEnd end;
    ASSERT_EQ(ReplayAll(*device, head, &end).value(), kept);
    EXPECT_EQ(end.next.first_lsn, appended + 1);
    cut = log->Cut();
    EXPECT_EQ(cut.lsn, appended);
    log->Trim(cut.position);
    EXPECT_EQ(log->UsedBytes(), 0U);
    kept.clear();
  }
}

TEST(LogWriter, TwoGroupsAreInFlightAndMoreWait) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  std::atomic<std::uint64_t> acknowledged{0};
  std::mutex trim_mutex;
  std::vector<std::thread> threads;
  for (int at = 0; at < 8; ++at) {
    threads.emplace_back([&] {
      for (int step = 0; step < 200; ++step) {
        std::optional<std::uint64_t> lsn;
        while (!(lsn = log->TryAppend("x"))) {
          // Full: drop what is durable.
          const std::lock_guard lock(trim_mutex);
          const auto cut = log->Cut();
          ASSERT_TRUE(log->Sync(cut.lsn).has_value());
          log->Trim(cut.position);
        }
        ASSERT_TRUE(log->Sync(*lsn).has_value());
        ASSERT_GE(log->DurableLsn(), *lsn);
        acknowledged.fetch_add(1);
      }
    });
    if (at == 0) threads.back().join();  // alone first: every commit is a group
    if (at == 0) {
      EXPECT_EQ(log->Counters().groups, 200U);
    }
  }
  for (auto& thread : threads) {
    if (thread.joinable()) thread.join();
  }
  EXPECT_EQ(acknowledged.load(), 1600U);
  EXPECT_LE(log->Counters().flushes, log->Counters().groups);
}

TEST(LogWriter, AFailedFlushIsFinal) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  ASSERT_TRUE(log->Sync(*log->TryAppend("a")).has_value());
  device->FailRequest(2);  // the FLUSH
  const auto lsn = *log->TryAppend("b");
  EXPECT_TRUE(log->Sync(lsn).error() == Errc::kIo);
  EXPECT_TRUE(log->Sync(lsn).error() ==
              Errc::kIo);  // a second FLUSH would succeed, and prove nothing
  EXPECT_EQ(log->DurableLsn(), 1U);
  EXPECT_TRUE(log->Sync(1).has_value());
  EXPECT_TRUE(log->Health().error() == Errc::kIo);
}

TEST(LogWriter, AWaiterIsToldOfAnotherPartsFailure) {
  auto device = Device();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  const auto lsn = *log->TryAppend("a");
  log->Fail(Error(Errc::kIo, "checkpoint"));
  EXPECT_TRUE(log->Sync(lsn).error() == Errc::kIo);
  EXPECT_EQ(device->RequestCount(), 0U);
}

TEST(LogWriter, ANarrowDeviceQueueIsNoError) {
  auto device = Device({.depth_max = 1});
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  std::string kept;
  for (int at = 0; at < 5; ++at) {
    const std::string transaction(700'000, static_cast<char>('a' + at));
    if (!log->TryAppend(transaction)) break;
    kept += transaction;
  }
  ASSERT_TRUE(log->Sync(log->LastLsn()).has_value());
  EXPECT_EQ(ReplayAll(*device, Head()).value(), kept);
}

// Takes so many requests, then refuses all: the other end is gone.
class Refusing final : public BlockDevice {
 public:
  Refusing(BlockDevice& device, int taken) : device_(device), left_(taken) {}
  DeviceInfo Info() const override { return device_.Info(); }
  BufferPool& Pool() override { return device_.Pool(); }
  Result<void> Submit(BlockRequest& request) override {
    if (left_ == 0) return Errc::kDeviceGone;
    --left_;
    return device_.Submit(request);
  }
  std::uint32_t Poll(std::uint32_t most) override { return device_.Poll(most); }
  void Relax() override { device_.Relax(); }

 private:
  BlockDevice& device_;
  int left_;
};

TEST(LogWriter, ARequestThatTheDeviceDoesNotTakeIsFinal) {
  for (const int taken : {0, 1}) {  // the write is refused, or the FLUSH
    auto device = Device();
    Refusing gone(*device, taken);
    auto log = LogWriter::Create(gone, kRing, Head()).value();
    const auto lsn = *log->TryAppend("a");
    EXPECT_TRUE(log->Sync(lsn).error() == Errc::kIo);
    EXPECT_TRUE(log->Health().error() == Errc::kIo);
    EXPECT_EQ(log->DurableLsn(), 0U);
  }
}

// Nobody waits for what is being written when the writer goes: it waits itself, or the device would
// write from memory that is somebody else's by then.
TEST(LogWriter, EndsOnlyWhenNothingIsInFlight) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    auto device = Device({.seed = seed});
    auto log = LogWriter::Create(*device, kRing, Head()).value();
    std::string kept;
    for (int at = 0; at < 3; ++at) {
      const std::string transaction(700'000, static_cast<char>('a' + at));
      if (!log->TryAppend(transaction)) break;
      kept += transaction;
      EXPECT_TRUE(log->LimitBacklog().has_value());
    }
    log.reset();
    EXPECT_EQ(device->Poll(64), 0U);
    const auto found = ReplayAll(*device, Head());
    ASSERT_TRUE(found.has_value()) << found.error().message();
    EXPECT_TRUE(kept.starts_with(found.value()));
  }
}

}  // namespace
}  // namespace filer::engine
