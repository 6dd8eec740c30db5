#include "host-bridge/initiator/driver_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "host-bridge/initiator/dma_memory.h"

namespace filer::bridge {
namespace {

constexpr std::uint32_t kSize = 8;

struct Events final : QueueEvents {
  void RingDoorbell(std::uint32_t) override { ++doorbells; }
  void ProtocolBroken(std::uint32_t, const Error& error) override {
    broken.push_back(error.code());
  }
  int doorbells = 0;
  std::vector<Errc> broken;
};

// A queue on real EAL memory, and the device's view of it.
class DriverQueueTest : public testing::TestWithParam<bool> {
 protected:
  static void SetUpTestSuite() {
    static const bool is_started = [] { return InitEal({.memory_bytes = 64 << 20}).has_value(); }();
    ASSERT_TRUE(is_started);
  }

  void SetUp() override {
    Make({.queue_size = kSize, .segments_max = 4, .has_indirect = GetParam()});
  }

  void Make(const DriverQueueOptions& options) {
    queue_.reset();
    memory_ =
        std::move(DmaMemory::Allocate(DriverQueue::MemoryBytes(options), 4 << 20)).assume_value();
    map_ = std::make_unique<AddressMap>(AddressMap::Linear(
        memory_->all(), reinterpret_cast<std::uintptr_t>(memory_->all().data())));
    queue_ = std::make_unique<DriverQueue>(options, *memory_, *map_, events_);
    rings_ = queue_->GetRingsForTest();
    device_avail_ = 0;
    device_used_ = 0;
  }

  Result<void> Prepare(DiskOperation operation, std::uint64_t cookie, std::size_t bytes = 512) {
    segment_ = {memory_->arena().data() + cookie % 64 * 4096, bytes};
    const bool has_data = operation == DiskOperation::kRead || operation == DiskOperation::kWrite;
    return queue_->Prepare({.operation = operation,
                            .offset_bytes = cookie * 512,
                            .length_bytes = bytes,
                            .segments = {&segment_, has_data ? 1U : 0U},
                            .cookie = cookie});
  }

  std::vector<virtio::Descriptor> Chain(std::uint16_t head) const {
    std::vector<virtio::Descriptor> chain;
    const virtio::Descriptor first = rings_.descriptors[head];
    if ((first.flags & virtio::kDescriptorIndirect) != 0) {
      const auto* table = reinterpret_cast<const virtio::Descriptor*>(first.address);
      for (std::size_t i = 0; i < first.length / sizeof first; ++i) chain.push_back(table[i]);
      return chain;
    }
    for (std::uint16_t at = head;; at = rings_.descriptors[at].next) {
      chain.push_back(rings_.descriptors[at]);
      if ((rings_.descriptors[at].flags & virtio::kDescriptorNext) == 0) return chain;
    }
  }

  std::vector<std::uint16_t> TakeAvailable() {
    std::vector<std::uint16_t> heads;
    while (device_avail_ != rings_.avail->index) {
      heads.push_back(rings_.avail->ring[device_avail_++ % kSize]);
    }
    return heads;
  }

  void PutUsed(std::uint32_t id, std::uint32_t length) {
    rings_.used->ring[device_used_ % kSize] = {id, length};
    virtio::StoreRelease(rings_.used->index, ++device_used_);
  }

  // An honest device: reads get the sector's number in every byte.
  void Complete(std::uint16_t head, std::uint8_t status = virtio::kStatusOk) {
    const auto chain = Chain(head);
    const auto* header = reinterpret_cast<const virtio::RequestHeader*>(chain.front().address);
    std::uint32_t written = 1;
    for (std::size_t i = 1; i + 1 < chain.size(); ++i) {
      if ((chain[i].flags & virtio::kDescriptorWrite) == 0) continue;
      std::memset(reinterpret_cast<void*>(chain[i].address),
                  static_cast<int>(header->sector.value()), chain[i].length);
      written += chain[i].length;
    }
    *reinterpret_cast<std::uint8_t*>(chain.back().address) = status;
    PutUsed(head, written);
  }

  std::vector<DiskCompletion> PollAll() {
    std::vector<DiskCompletion> all(64);
    all.resize(queue_->Poll(all));
    return all;
  }

  Events events_;
  std::unique_ptr<DmaMemory> memory_;
  std::unique_ptr<AddressMap> map_;
  std::unique_ptr<DriverQueue> queue_;
  DriverQueue::RingsForTest rings_ = {};
  iovec segment_ = {};
  std::uint16_t device_avail_ = 0;
  std::uint16_t device_used_ = 0;
};

TEST_P(DriverQueueTest, WritesChainsAsTheStandardHasThem) {
  ASSERT_TRUE(Prepare(DiskOperation::kRead, 3, 1024).has_value());
  EXPECT_EQ(rings_.avail->index, 0);  // not published yet
  queue_->Publish();
  const auto chain = Chain(TakeAvailable().at(0));
  ASSERT_EQ(chain.size(), 3U);
  const auto* header = reinterpret_cast<const virtio::RequestHeader*>(chain[0].address);
  EXPECT_EQ(header->type, virtio::kRequestIn);
  EXPECT_EQ(header->sector, 3U);
  EXPECT_EQ(chain[0].length, 16U);
  EXPECT_EQ(chain[0].flags, virtio::kDescriptorNext);
  EXPECT_EQ(chain[1].length, 1024U);
  EXPECT_EQ(chain[1].flags, virtio::kDescriptorNext | virtio::kDescriptorWrite);
  EXPECT_EQ(chain[2].length, 1U);
  EXPECT_EQ(chain[2].flags, virtio::kDescriptorWrite);
}

TEST_P(DriverQueueTest, SurvivesTheWrapOfAllIndexes) {
  std::mt19937 random(5);
  std::uint64_t next = 0;
  std::uint64_t completed = 0;
  std::deque<std::uint16_t> device;
  while (completed < 70'000) {
    while (
        Prepare(next % 2 == 0 ? DiskOperation::kRead : DiskOperation::kWrite, next).has_value()) {
      ++next;
      if (random() % 4 == 0) break;
    }
    queue_->Publish();
    for (const std::uint16_t head : TakeAvailable()) device.push_back(head);
    for (std::size_t left = random() % 4; left > 0 && !device.empty(); --left) {
      const std::size_t index = random() % device.size();  // out of order
      Complete(device[index]);
      device.erase(device.begin() + static_cast<std::ptrdiff_t>(index));
    }
    for (const DiskCompletion& completion : PollAll()) {
      ASSERT_TRUE(completion.is_ok);
      if (completion.cookie % 2 == 0) {
        ASSERT_EQ(memory_->arena()[completion.cookie % 64 * 4096 + 511],
                  static_cast<std::byte>(completion.cookie));
      }
      ++completed;
    }
    ASSERT_EQ(queue_->InFlight(), next - completed);
  }
  EXPECT_TRUE(events_.broken.empty());
  EXPECT_EQ(queue_->Counters().requests, completed);
}

TEST_P(DriverQueueTest, SaysWhenTheRingIsFull) {
  std::uint64_t taken = 0;
  while (Prepare(DiskOperation::kWrite, taken).has_value()) ++taken;
  EXPECT_EQ(taken, GetParam() ? kSize : kSize / 3);
  EXPECT_TRUE(Prepare(DiskOperation::kWrite, taken).error() == Errc::kWouldBlock);
  queue_->Publish();
  for (const std::uint16_t head : TakeAvailable()) Complete(head);
  EXPECT_EQ(PollAll().size(), taken);
  EXPECT_TRUE(Prepare(DiskOperation::kWrite, 0).has_value());
}

TEST_P(DriverQueueTest, RefusesBuffersOutsideTheArena) {
  std::array<std::byte, 512> foreign;
  const auto prepare = [this](void* start, std::size_t bytes) {
    const iovec segment = {start, bytes};
    return queue_->Prepare({.operation = DiskOperation::kRead,
                            .offset_bytes = 0,
                            .length_bytes = bytes,
                            .segments = {&segment, 1},
                            .cookie = 0});
  };
  EXPECT_TRUE(prepare(foreign.data(), 512).error() == Errc::kBadAddress);
  EXPECT_TRUE(prepare(memory_->all().data(), 512).error() == Errc::kBadAddress);  // the rings
  EXPECT_TRUE(prepare(memory_->arena().data() + memory_->arena().size() - 512, 1024).error() ==
              Errc::kBadAddress);
  EXPECT_TRUE(prepare(memory_->arena().data(), SIZE_MAX).error() == Errc::kBadAddress);
  EXPECT_EQ(queue_->InFlight(), 0U);
}

TEST_P(DriverQueueTest, ReportsTheDevicesErrors) {
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_TRUE(Prepare(DiskOperation::kFlush, i).has_value());
  queue_->Publish();
  const auto heads = TakeAvailable();
  Complete(heads[0], virtio::kStatusIoError);
  Complete(heads[1], virtio::kStatusUnsupported);
  const auto all = PollAll();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_FALSE(all[0].is_ok || all[1].is_ok);
  EXPECT_EQ(all[0].status, Errc::kIo);
  EXPECT_EQ(all[1].status, Errc::kNotSupported);
}

TEST_P(DriverQueueTest, TakesAMissingStatusForAnError) {
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 1).has_value());
  queue_->Publish();
  PutUsed(TakeAvailable().at(0), 0);
  const auto all = PollAll();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_FALSE(all[0].is_ok);
}

// Each lie ends the queue: everything in flight fails, once, and nothing new is taken.
TEST_P(DriverQueueTest, EndsWhenTheDeviceLies) {
  enum Lie { kIdOutOfRange, kIdNotInFlight, kTwice, kTooLong, kIndexJumps, kIndexGoesBack };
  for (const Lie lie :
       {kIdOutOfRange, kIdNotInFlight, kTwice, kTooLong, kIndexJumps, kIndexGoesBack}) {
    SCOPED_TRACE(static_cast<int>(lie));
    events_.broken.clear();
    Make({.queue_size = kSize, .segments_max = 4, .has_indirect = GetParam()});
    ASSERT_TRUE(Prepare(DiskOperation::kFlush, 100).has_value());
    ASSERT_TRUE(Prepare(DiskOperation::kFlush, 101).has_value());
    queue_->Publish();
    const auto heads = TakeAvailable();
    std::uint16_t free_head = 0;
    while (free_head == heads[0] || free_head == heads[1]) ++free_head;
    if (lie == kIdOutOfRange) PutUsed(kSize, 1);
    if (lie == kIdNotInFlight) PutUsed(free_head, 1);
    if (lie == kTwice) {
      Complete(heads[0]);
      Complete(heads[0]);
    }
    if (lie == kTooLong) PutUsed(heads[0], 2);
    if (lie == kIndexJumps) rings_.used->index = 3;
    if (lie == kIndexGoesBack) rings_.used->index = 0xffff;
    std::vector<DiskCompletion> all;
    for (int i = 0; i < 3; ++i) {
      for (const auto& one : PollAll()) all.push_back(one);
    }
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(events_.broken.size(), 1U);
    EXPECT_FALSE(all[1].is_ok);
    EXPECT_EQ(all[1].status, Errc::kDeviceGone);
    EXPECT_EQ(queue_->InFlight(), 0U);
    EXPECT_TRUE(Prepare(DiskOperation::kFlush, 1).error() == Errc::kDeviceGone);
  }
}

TEST_P(DriverQueueTest, RingsTheDoorbellOnlyWhenAsked) {
  std::uint16_t* const event = virtio::AvailEvent(rings_.used, kSize);
  *event = 0;  // the device sleeps and waits for the first
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 1).has_value());
  queue_->Publish();
  EXPECT_EQ(events_.doorbells, 1);
  *event = 0x8001;  // it polls
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 2).has_value());
  queue_->Publish();
  queue_->Publish();
  EXPECT_EQ(events_.doorbells, 1);

  Make({.queue_size = kSize,
        .segments_max = 4,
        .has_indirect = GetParam(),
        .has_event_index = false});
  EXPECT_EQ(rings_.avail->flags, virtio::kAvailNoInterrupt);
  rings_.used->flags = virtio::kUsedNoNotify;
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 1).has_value());
  queue_->Publish();
  EXPECT_EQ(events_.doorbells, 1);
  rings_.used->flags = 0;
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 2).has_value());
  queue_->Publish();
  EXPECT_EQ(events_.doorbells, 2);
}

// After a restart of the device: done ones are delivered once, all others are there again, in
// order.
TEST_P(DriverQueueTest, RestartSubmitsExactlyWhatHadNotCompleted) {
  for (std::uint64_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(Prepare(DiskOperation::kFlush, i).has_value());
  }
  queue_->Publish();
  const auto heads = TakeAvailable();
  ASSERT_TRUE(Prepare(DiskOperation::kFlush, 2).has_value());  // prepared, not published
  Complete(heads[0]);
  EXPECT_EQ(queue_->Restart(), 2U);
  EXPECT_EQ(queue_->InFlight(), 3U);
  EXPECT_EQ(rings_.used->index, 0);
  device_avail_ = 0;
  device_used_ = 0;
  const auto again = TakeAvailable();
  ASSERT_EQ(again.size(), 2U);
  EXPECT_EQ(again[0], heads[1]);
  queue_->Publish();
  EXPECT_TRUE(TakeAvailable().empty());
  for (const std::uint16_t head : again) Complete(head);
  std::vector<std::uint64_t> cookies;
  for (const auto& one : PollAll()) {
    EXPECT_TRUE(one.is_ok);
    cookies.push_back(one.cookie);
  }
  std::sort(cookies.begin(), cookies.end());
  EXPECT_EQ(cookies, (std::vector<std::uint64_t>{0, 1, 2}));
  EXPECT_TRUE(events_.broken.empty());
}

// MemoryBytes is enough for every shape (Carve aborts otherwise), and no ring crosses a page that
// it fits into.
TEST_P(DriverQueueTest, FitsItsMemoryAndItsPages) {
  for (std::uint32_t size = 4; size <= 1024; size *= 2) {
    for (const std::uint32_t segments : {1U, 64U, 126U}) {
      Make({.queue_size = size, .segments_max = segments, .has_indirect = GetParam()});
      const auto page = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) / 4096; };
      const auto fits = [&page](const void* start, std::size_t bytes) {
        return bytes > 4096 || page(start) == page(static_cast<const char*>(start) + bytes - 1);
      };
      EXPECT_TRUE(fits(rings_.descriptors, virtio::DescriptorTableBytes(size)));
      EXPECT_TRUE(fits(rings_.avail, virtio::AvailRingBytes(size)));
      EXPECT_TRUE(fits(rings_.used, virtio::UsedRingBytes(size)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, DriverQueueTest, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Indirect" : "Direct"; });

TEST(AddressMap, SplitsWherePagesAreApart) {
  constexpr std::uint64_t kGranule = AddressMap::kGranuleBytes;
  auto* base = reinterpret_cast<std::byte*>(kGranule * 7);  // never touched
  const AddressMap map({base, 3 * kGranule}, {10 * kGranule, 11 * kGranule, 50 * kGranule});
  EXPECT_TRUE(map.Contains(base, 3 * kGranule));
  EXPECT_FALSE(map.Contains(base + 1, 3 * kGranule));
  EXPECT_FALSE(map.Contains(base - 1, 1));
  auto piece = map.Translate(base + 100, 3 * kGranule - 100);
  EXPECT_EQ(piece.address, 10 * kGranule + 100);
  EXPECT_EQ(piece.length_bytes, 2 * kGranule - 100);
  piece = map.Translate(base + 2 * kGranule, kGranule);
  EXPECT_EQ(piece.address, 50 * kGranule);
  EXPECT_EQ(piece.length_bytes, kGranule);
}

}  // namespace
}  // namespace filer::bridge
