// DriverQueue on a packed ring, against a device that completes as it likes, and against one that
// lies. What both rings share is in driver_queue_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "host-bridge/initiator/dma_memory.h"
#include "host-bridge/initiator/driver_queue.h"

namespace filer::bridge {
namespace {

using virtio::PackedDescriptor;
using virtio::PackedEvent;

constexpr std::uint32_t kSize = 8;

struct Events final : QueueEvents {
  void RingDoorbell(std::uint32_t) override { ++doorbells; }
  void ProtocolBroken(std::uint32_t, const Error& error) override {
    broken.push_back(error.code());
  }
  int doorbells = 0;
  std::vector<Errc> broken;
};

// With indirect tables and without.
class PackedDriverQueueTest : public testing::TestWithParam<bool> {
 protected:
  static void SetUpTestSuite() {
    static const bool is_started = [] {
      const auto started = InitEal({.memory_bytes = 64 << 20});
      return started.has_value() || started.error() == Errc::kExists;
    }();
    ASSERT_TRUE(is_started);
  }
  void SetUp() override {
    const DriverQueueOptions options = {.queue_size = kSize,
                                        .segments_max = 2,
                                        .has_indirect = GetParam(),
                                        .has_event_index = true,
                                        .is_packed = true};
    memory_ =
        std::move(DmaMemory::Allocate(DriverQueue::MemoryBytes(options), 4 << 20)).assume_value();
    map_ = std::make_unique<AddressMap>(AddressMap::Linear(
        memory_->all(), reinterpret_cast<std::uintptr_t>(memory_->all().data())));
    queue_ = std::make_unique<DriverQueue>(options, *memory_, *map_, events_);
    const RingAddresses at = queue_->Addresses();
    ring_ = reinterpret_cast<PackedDescriptor*>(at.descriptors);
    driver_event_ = reinterpret_cast<PackedEvent*>(at.avail);
    device_event_ = reinterpret_cast<PackedEvent*>(at.used);
    device_event_->flags = virtio::kPackedEventNever;
  }
  Result<void> Prepare(DiskOperation operation, std::uint64_t cookie) {
    segment_ = {memory_->arena().data() + cookie % 64 * 4096, 512};
    return queue_->Prepare({operation, cookie * 512, 0, {&segment_, 1}, cookie});
  }

  struct Taken {
    std::uint16_t id;
    std::uint32_t count;  // descriptors of the ring
    std::vector<PackedDescriptor> chain;
    std::uint64_t sector() const {
      return reinterpret_cast<const virtio::RequestHeader*>(chain.front().address)->sector;
    }
  };
  std::vector<Taken> TakeAvailable() {
    std::vector<Taken> all;
    while (virtio::IsPackedAvailable(ring_[avail_].flags, avail_wrap_)) {
      Taken taken = {0, 0, {}};
      bool has_next = true;
      while (has_next) {
        const PackedDescriptor at = ring_[avail_];
        EXPECT_TRUE(virtio::IsPackedAvailable(at.flags, avail_wrap_));
        has_next = (at.flags & virtio::kDescriptorNext) != 0;
        taken.id = at.id;
        ++taken.count;
        Step(avail_, avail_wrap_, 1);
        if ((at.flags & virtio::kDescriptorIndirect) == 0) {
          taken.chain.push_back(at);
          continue;
        }
        const auto* table = reinterpret_cast<const PackedDescriptor*>(at.address);
        taken.chain.assign(table, table + at.length / sizeof(*table));
      }
      all.push_back(taken);
    }
    return all;
  }
  void PutUsed(std::uint16_t id, std::uint32_t length, std::uint32_t count) {
    ring_[used_].address = 0;  // a device may overwrite all of it
    ring_[used_].id = id;
    ring_[used_].length = length;
    virtio::StoreRelease(ring_[used_].flags, virtio::PackedUsedFlags(used_wrap_));
    Step(used_, used_wrap_, count);
  }
  void Complete(const Taken& taken) {
    std::uint32_t written = 1;
    for (std::size_t i = 1; i + 1 < taken.chain.size(); ++i) {
      const PackedDescriptor& piece = taken.chain[i];
      if ((piece.flags & virtio::kDescriptorWrite) == 0) continue;
      std::memset(reinterpret_cast<void*>(piece.address), static_cast<int>(taken.sector()),
                  piece.length);
      written += piece.length;
    }
    *reinterpret_cast<std::uint8_t*>(taken.chain.back().address) = virtio::kStatusOk;
    PutUsed(taken.id, written, taken.count);
  }
  std::vector<DiskCompletion> PollAll() {
    std::vector<DiskCompletion> all(64);
    all.resize(queue_->Poll(all));
    return all;
  }
  static void Step(std::uint32_t& place, bool& wrap, std::uint32_t count) {
    place += count;
    if (place < kSize) return;
    place -= kSize;
    wrap = !wrap;
  }

  Events events_;
  std::unique_ptr<DmaMemory> memory_;
  std::unique_ptr<AddressMap> map_;
  std::unique_ptr<DriverQueue> queue_;
  PackedDescriptor* ring_ = nullptr;
  PackedEvent* driver_event_ = nullptr;
  PackedEvent* device_event_ = nullptr;
  iovec segment_ = {};
  std::uint32_t avail_ = 0, used_ = 0;
  bool avail_wrap_ = true, used_wrap_ = true;
};

TEST_P(PackedDriverQueueTest, WritesChainsAsTheStandardHasThem) {
  ASSERT_TRUE(Prepare(DiskOperation::kRead, 3).has_value());
  EXPECT_TRUE(TakeAvailable().empty());  // not published yet
  queue_->Publish();
  const auto all = TakeAvailable();
  ASSERT_EQ(all.size(), 1U);
  ASSERT_EQ(all[0].chain.size(), 3U);
  EXPECT_EQ(all[0].count, GetParam() ? 1U : 3U);
  EXPECT_EQ(all[0].sector(), 3U);
  EXPECT_EQ(all[0].chain[0].length, 16U);
  EXPECT_EQ(all[0].chain[0].flags & virtio::kDescriptorWrite, 0);
  EXPECT_NE(all[0].chain[1].flags & virtio::kDescriptorWrite, 0);
  EXPECT_EQ(all[0].chain[2].length, 1U);
  EXPECT_EQ(driver_event_->flags, virtio::kPackedEventNever);
}

// Many laps, completed in any order, as many in flight as fit.
TEST_P(PackedDriverQueueTest, EachRequestCompletesOnceWithItsOwnData) {
  std::mt19937 random(11);
  std::vector<Taken> at_device;
  std::map<std::uint64_t, int> open;
  std::uint64_t next = 0;
  while (next < 3000 || !open.empty()) {
    for (std::uint32_t i = 0; i < random() % 5 && next < 3000; ++i) {
      // Sixty-four places in the arena: not one that is still in use.
      if (open.contains(next - 64) || !Prepare(DiskOperation::kRead, next)) break;
      open[next++] = 1;
    }
    queue_->Publish();
    for (Taken& taken : TakeAvailable()) at_device.push_back(taken);
    std::shuffle(at_device.begin(), at_device.end(), random);
    for (std::uint32_t i = 0; i < random() % 4 && !at_device.empty(); ++i) {
      Complete(at_device.back());
      at_device.pop_back();
    }
    for (const DiskCompletion& done : PollAll()) {
      ASSERT_TRUE(done.is_ok);
      ASSERT_EQ(open.erase(done.cookie), 1U);
      ASSERT_EQ(memory_->arena()[done.cookie % 64 * 4096], static_cast<std::byte>(done.cookie));
    }
  }
  EXPECT_TRUE(events_.broken.empty());
  EXPECT_EQ(queue_->InFlight(), 0U);
}

TEST_P(PackedDriverQueueTest, BreaksOnADeviceThatLies) {
  const auto lies = [&](std::uint16_t id_change, std::uint32_t length, bool is_published) {
    SetUp();
    avail_ = used_ = 0;
    avail_wrap_ = used_wrap_ = true;
    events_.broken.clear();
    EXPECT_TRUE(Prepare(DiskOperation::kRead, 1).has_value());
    if (is_published) queue_->Publish();
    const auto all = TakeAvailable();
    PutUsed(static_cast<std::uint16_t>((is_published ? all[0].id : 0) + id_change), length, 1);
    const auto done = PollAll();
    return events_.broken.size() == 1 && done.size() == 1 && done[0].status == Errc::kDeviceGone;
  };
  EXPECT_FALSE(lies(0, 513, true));
  EXPECT_TRUE(lies(0, 514, true));    // more than there was room for
  EXPECT_TRUE(lies(1, 513, true));    // not in flight
  EXPECT_TRUE(lies(kSize, 1, true));  // no such id
  EXPECT_TRUE(lies(0, 513, false));   // it was not told of it yet
}

TEST_P(PackedDriverQueueTest, RestartSubmitsAgainWhatHadNotCompleted) {
  const std::uint64_t count = GetParam() ? 5 : 2;
  for (std::uint64_t cookie = 1; cookie <= count; ++cookie) {
    ASSERT_TRUE(Prepare(DiskOperation::kWrite, cookie).has_value());
  }
  queue_->Publish();
  const auto before = TakeAvailable();
  Complete(before.at(0));
  ring_[7] = {1, 2, 3, 0xffff};  // the lost device's last gasp
  EXPECT_EQ(queue_->Restart(), count - 1);
  avail_ = used_ = 0;
  avail_wrap_ = used_wrap_ = true;
  const auto again = TakeAvailable();
  ASSERT_EQ(again.size(), count - 1);
  for (std::uint64_t i = 0; i < again.size(); ++i) EXPECT_EQ(again[i].sector(), i + 2);
  for (const Taken& taken : again) Complete(taken);
  auto done = PollAll();
  ASSERT_EQ(done.size(), count);
  std::sort(done.begin(), done.end(),
            [](const auto& a, const auto& b) { return a.cookie < b.cookie; });
  for (std::uint64_t i = 0; i < count; ++i) {
    EXPECT_EQ(done[i].cookie, i + 1);
    EXPECT_TRUE(done[i].is_ok);
  }
}

TEST_P(PackedDriverQueueTest, RingsTheDoorbellWhenTheDeviceWantsIt) {
  const auto rings = [&] {
    const int before = events_.doorbells;
    EXPECT_TRUE(Prepare(DiskOperation::kRead, 1).has_value());
    queue_->Publish();
    for (const Taken& taken : TakeAvailable()) Complete(taken);
    EXPECT_EQ(PollAll().size(), 1U);
    return events_.doorbells > before;
  };
  device_event_->flags = virtio::kPackedEventAlways;
  EXPECT_TRUE(rings());
  device_event_->flags = virtio::kPackedEventNever;
  EXPECT_FALSE(rings());
  for (int lap = 0; lap < 20; ++lap) {  // at the next place, as a device says before it sleeps
    device_event_->place =
        static_cast<std::uint16_t>(avail_ | (avail_wrap_ ? virtio::kPackedPlaceWrap : 0));
    device_event_->flags = virtio::kPackedEventAt;
    EXPECT_TRUE(rings()) << lap;
    EXPECT_FALSE(rings()) << lap;  // it has passed that place
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, PackedDriverQueueTest, testing::Bool(),
                         [](const auto& suite) { return suite.param ? "Indirect" : "Chained"; });

}  // namespace
}  // namespace filer::bridge
