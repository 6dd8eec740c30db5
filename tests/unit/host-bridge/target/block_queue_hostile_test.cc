// One queue of a block device, with a driver that rewrites everything while it is read, and one
// that offers more than its share.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "host-bridge/target/block_queue.h"
#include "host-bridge/virtio/block.h"
#include "tests/fuzz/checking_backend.h"
#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {
namespace {

using virtio::Descriptor;
using virtio::StoreOnce;
using virtio::StoreRelease;

constexpr std::uint64_t kGuest = 0x100000;
constexpr std::size_t kMemoryBytes = 2 << 20;
constexpr std::size_t kAvail = 0x10000, kUsed = 0x12000, kHeaders = 0x20000, kTables = 0x30000,
                      kStatuses = 0x50000, kData = 0x80000;

class BlockQueueHostileTest : public testing::Test {
 protected:
  BlockQueueHostileTest() : memory_(kMemoryBytes), backend_(state_) {
    const RegionSpec spec{kGuest, kMemoryBytes, 0x7f0000000000, 0};
    EXPECT_TRUE(space_.memory().Add(spec, memory_.DupFd()).has_value());
    SegmentList list;
    MemoryMap::Window window;
    EXPECT_EQ(space_.memory().TranslateGuest(kGuest, kMemoryBytes, list, window),
              TranslateStatus::kOk);
    state_.memory = {list.segments[0]};
    state_.info.size_bytes = 64 << 20;
    device_.capacity_sectors = state_.info.size_bytes / 512;
  }
  void Start(std::uint32_t size) {
    layout_ = {memory_.At<Descriptor>(0),
               memory_.At<virtio::AvailRing>(kAvail),
               memory_.At<virtio::UsedRing>(kUsed),
               size,
               false,
               true};
    state_.capacity = size;
    queue_ = std::make_unique<BlockQueue>(space_, device_, counters_);
    ASSERT_TRUE(queue_->Start(backend_, layout_, layout_.avail->index, nullptr, 0).has_value());
  }
  // Descriptor n: an indirect table with header, `bytes` to read, status.
  void Prepare(std::uint32_t n, std::uint32_t bytes) {
    auto* header = memory_.At<virtio::RequestHeader>(kHeaders + 16 * n);
    header->type = virtio::kRequestIn;
    header->sector = 0;
    auto* table = memory_.At<Descriptor>(kTables + 48 * n);
    table[0] = {kGuest + kHeaders + 16 * n, 16, virtio::kDescriptorNext, 1};
    table[1] = {kGuest + kData, bytes, virtio::kDescriptorNext | virtio::kDescriptorWrite, 2};
    table[2] = {kGuest + kStatuses + n, 1, virtio::kDescriptorWrite, 0};
    layout_.descriptors[n] = {kGuest + kTables + 48 * n, 48, virtio::kDescriptorIndirect, 0};
  }
  void Publish(std::uint16_t head) {
    const std::uint16_t index = layout_.avail->index;
    StoreOnce(layout_.avail->ring[index % layout_.size], head);
    StoreRelease(layout_.avail->index, static_cast<std::uint16_t>(index + 1));
  }
  void Quiet() {
    queue_->SetAccepting(false);
    for (int i = 0; i < 1000 && queue_->in_flight() > 0; ++i) queue_->Round();
    ASSERT_EQ(queue_->in_flight(), 0u);
  }

  FakeMemory memory_;
  AddressSpace space_;
  fuzz::CheckingState state_;
  fuzz::CheckingBackend backend_;
  BlockDevice device_;
  VolumeCounters counters_;
  RingLayout layout_;
  std::unique_ptr<BlockQueue> queue_;
};

TEST_F(BlockQueueHostileTest, TakesABoundedNumberOfRequestsPerRound) {
  constexpr std::uint32_t kSize = 512;
  for (const int wait_fd : {0, -1}) {
    state_.wait_fd = wait_fd;  // one that completes by and by, and one that does at once
    const std::uint32_t most = wait_fd < 0 ? kSynchronousRoundRequestsMax : kRoundRequestsMax;
    Start(kSize);
    for (std::uint16_t n = 0; n < kSize; ++n) {
      Prepare(n, 512);
      Publish(n);
    }
    state_.is_holding = true;
    const std::uint64_t before = counters_.requests.Get();
    for (std::uint32_t round = 1; round <= 3; ++round) {
      queue_->Round();
      EXPECT_EQ(counters_.requests.Get() - before, round * most);
    }
    state_.is_holding = false;
    Quiet();
    queue_->Stop();
  }
}

// A chain of tiny descriptors costs the poller more than its bytes say.
TEST_F(BlockQueueHostileTest, TakesABoundedNumberOfTranslationsPerRound) {
  constexpr std::uint16_t kPieces = 250;
  state_.wait_fd = 0;
  Start(128);
  auto* table = memory_.At<Descriptor>(kData);
  *memory_.At<virtio::RequestHeader>(kHeaders) = {};
  table[0] = {kGuest + kHeaders, 16, virtio::kDescriptorNext, 1};
  for (std::uint16_t at = 1; at <= kPieces; ++at) {
    table[at] = {kGuest + kData + (1 << 20) + 4 * at, 2,
                 virtio::kDescriptorNext | virtio::kDescriptorWrite,
                 static_cast<std::uint16_t>(at + 1)};
  }
  table[kPieces + 1] = {kGuest + kStatuses, 1, virtio::kDescriptorWrite, 0};
  for (std::uint16_t n = 0; n < 128; ++n) {
    layout_.descriptors[n] = {kGuest + kData, (kPieces + 2) * sizeof(Descriptor),
                              virtio::kDescriptorIndirect, 0};
    Publish(n);
  }
  queue_->Round();
  EXPECT_EQ(queue_->fault(), RingFault::kNone);
  EXPECT_GT(counters_.requests.Get(), 0U);
  EXPECT_LE(counters_.requests.Get(), kRoundBytesMax / (kPieces * kTranslationStepBytes) + 1);
  EXPECT_GE(queue_->round_work(), kRoundBytesMax);
  Quiet();
}

// Of a volume's bandwidth, zeroing costs what writing the zeroes would.
TEST_F(BlockQueueHostileTest, WriteZeroesCostsWhatItWrites) {
  state_.wait_fd = 0;
  device_.has_write_zeroes = true;
  RateLimiter limiter;
  limiter.Set({0, 1 << 20});
  Start(4);
  queue_->SetLimiter(&limiter);
  auto* header = memory_.At<virtio::RequestHeader>(kHeaders);
  header->type = virtio::kRequestWriteZeroes;
  header->sector = 0;
  auto* range = memory_.At<virtio::RangeSegment>(kData);
  *range = {};
  range->sector_count = (32 << 20) / 512;
  auto* table = memory_.At<Descriptor>(kTables);
  table[0] = {kGuest + kHeaders, 16, virtio::kDescriptorNext, 1};
  table[1] = {kGuest + kData, sizeof(*range), virtio::kDescriptorNext, 2};
  table[2] = {kGuest + kStatuses, 1, virtio::kDescriptorWrite, 0};
  for (std::uint16_t n = 0; n < 2; ++n) {
    layout_.descriptors[n] = {kGuest + kTables, 48, virtio::kDescriptorIndirect, 0};
    Publish(n);
  }
  queue_->Round();
  EXPECT_EQ(counters_.requests.Get(), 1U) << "32 MiB at once at 1 MiB a second";
  queue_->Round();
  EXPECT_EQ(counters_.requests.Get(), 1U);
  EXPECT_GT(queue_->HeldBackNs(), 20'000'000'000);
  Quiet();
}

TEST_F(BlockQueueHostileTest, TakesABoundedNumberOfBytesPerRound) {
  state_.wait_fd = 0;
  Start(16);
  for (std::uint16_t n = 0; n < 16; ++n) {
    Prepare(n, 1 << 20);
    Publish(n);
  }
  queue_->Round();
  EXPECT_EQ(counters_.requests.Get(), kRoundBytesMax >> 20);
  Quiet();
  queue_->Stop();
}

// The driver's thread makes every field that the queue reads good and bad in turn, as fast as it
// can; the backend holds each request that comes through to what it may be.
TEST_F(BlockQueueHostileTest, BelievesEachFieldOnceWhileItIsRewritten) {
  constexpr std::uint32_t kSize = 16;
  Start(kSize);
  for (std::uint16_t n = 0; n < kSize; ++n) Prepare(n, 512);
  std::atomic<bool> is_over = false;
  std::thread driver([&] {
    std::minstd_rand random(1);  // NOLINT: the same every time
    constexpr std::uint64_t kAddresses[] = {0, kGuest - 1, kGuest + kMemoryBytes - 1,
                                            kGuest + kMemoryBytes, UINT64_MAX - 8};
    constexpr std::uint32_t kLengths[] = {0, 1, 513, 1 << 21, UINT32_MAX};
    constexpr std::uint16_t kFlags[] = {0, 1, 2, 3, 4, 5, 7, 0xffff};
    while (!is_over.load(std::memory_order_relaxed)) {
      const std::uint32_t n = random() % kSize;
      auto* table = memory_.At<Descriptor>(kTables + 48 * n);
      auto* header = memory_.At<virtio::RequestHeader>(kHeaders + 16 * n);
      Descriptor& target = random() % 4 == 0 ? layout_.descriptors[n] : table[random() % 3];
      const Descriptor good = target;
      switch (random() % 6) {
        case 0:
          StoreOnce(target.address, kAddresses[random() % std::size(kAddresses)]);
          break;
        case 1:
          StoreOnce(target.length, kLengths[random() % std::size(kLengths)]);
          break;
        case 2:
          StoreOnce(target.flags, kFlags[random() % std::size(kFlags)]);
          break;
        case 3:
          StoreOnce(target.next, static_cast<std::uint16_t>(random() % 4));
          break;
        case 4:
          header->sector = random() % 2 == 0 ? UINT64_MAX / 512 : device_.capacity_sectors - 1;
          break;
        default:
          header->type = static_cast<std::uint32_t>(random() % 2);
          break;
      }
      StoreOnce(target.address, good.address);
      StoreOnce(target.length, good.length);
      StoreOnce(target.flags, good.flags);
      StoreOnce(target.next, good.next);
      header->type = virtio::kRequestIn;
      header->sector = 0;
    }
  });
  std::uint32_t faults = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  for (std::uint16_t n = 0; std::chrono::steady_clock::now() < end; ++n) {
    Publish(n % kSize);
    queue_->Round();
    ASSERT_LE(queue_->in_flight(), kSize);
    if (queue_->fault() == RingFault::kNone) continue;
    ++faults;
    Quiet();
    queue_->Stop();
    Start(kSize);
  }
  is_over = true;
  driver.join();
  Quiet();
  queue_->Stop();
  EXPECT_GT(counters_.requests.Get(), 100u);
  RecordProperty("requests", static_cast<int>(counters_.requests.Get()));
  RecordProperty("faults", static_cast<int>(faults));
}

}  // namespace
}  // namespace filer::bridge
