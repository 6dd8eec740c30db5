#include "host-bridge/target/packed_device_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {
namespace {

using virtio::kDescriptorIndirect;
using virtio::kDescriptorNext;
using virtio::kDescriptorWrite;
using virtio::PackedDescriptor;
using virtio::PackedEvent;
using Pops = PackedDeviceQueue::PopResult;

constexpr std::uint64_t kGuest = 0x100000;
constexpr std::uint32_t kSize = 8;
constexpr std::size_t kMemoryBytes = 64 << 10;
constexpr std::uint16_t kStart = virtio::kPackedPlaceWrap;  // place 0, first lap

class PackedDeviceQueueTest : public testing::Test {
 protected:
  PackedDeviceQueueTest() : memory_(kMemoryBytes) {
    const RegionSpec spec{kGuest, kMemoryBytes, 0x7f0000000000, 0};
    EXPECT_TRUE(space_.memory().Add(spec, memory_.DupFd()).has_value());
    Attach(kSize);
  }
  void Attach(std::uint32_t size, bool has_event_index = false, std::uint16_t position = kStart) {
    layout_ = {};
    layout_.size = size;
    layout_.has_event_index = has_event_index;
    layout_.has_indirect = true;
    layout_.packed = memory_.At<PackedDescriptor>(0);
    layout_.driver_event = memory_.At<PackedEvent>(0x3000);
    layout_.device_event = memory_.At<PackedEvent>(0x3010);
    queue_.Attach(layout_, position);
    place_ = position & virtio::kPackedPlaceMask;
    wrap_ = (position & virtio::kPackedPlaceWrap) != 0;
  }
  PackedEvent& DriverEvent() { return *memory_.At<PackedEvent>(0x3000); }
  // The next descriptor of the ring, made available.
  void Offer(std::uint16_t id, std::uint64_t offset = 0x4000, std::uint32_t length = 16,
             std::uint16_t flags = 0) {
    PackedDescriptor& at = layout_.packed[place_];
    at.address = kGuest + offset;
    at.length = length;
    at.id = id;
    virtio::StoreRelease(at.flags,
                         static_cast<std::uint16_t>(flags | virtio::PackedAvailableFlags(wrap_)));
    if (++place_ == layout_.size) {
      place_ = 0;
      wrap_ = !wrap_;
    }
  }
  Pops Pop() { return queue_.Pop(id_, fault_); }
  ChainResult Read() { return queue_.ReadChain(id_, view_, chain_, miss_, fault_); }
  void ExpectPopFault(RingFault fault) {
    EXPECT_EQ(Pop(), Pops::kFault);
    EXPECT_EQ(fault_, fault) << RingFaultText(fault_);
  }
  void ExpectReadFault(RingFault fault) {
    ASSERT_EQ(Pop(), Pops::kHead);
    EXPECT_EQ(Read(), ChainResult::kFault);
    EXPECT_EQ(fault_, fault) << RingFaultText(fault_);
    queue_.Unpop(id_);
    place_ = 0;  // the next Offer is for the same place
    wrap_ = true;
  }
  bool Do(std::uint16_t id) {
    Offer(id);
    if (Pop() != Pops::kHead || id_ != id) return false;
    queue_.PushUsed(id, 0);
    queue_.Publish();
    return true;
  }
  bool IsUsed(std::uint32_t place, bool wrap) {
    return virtio::IsPackedUsed(layout_.packed[place].flags, wrap);
  }

  FakeMemory memory_;
  AddressSpace space_;
  const AddressView view_{space_};
  RingLayout layout_;
  PackedDeviceQueue queue_;
  Chain chain_;
  IotlbMiss miss_;
  std::uint16_t id_ = 0;
  std::uint32_t place_ = 0;
  bool wrap_ = true;
  RingFault fault_ = RingFault::kNone;
};

TEST_F(PackedDeviceQueueTest, PopsWhatIsAvailableOnceEach) {
  EXPECT_EQ(Pop(), Pops::kEmpty);
  Offer(3);
  Offer(5);
  EXPECT_TRUE(queue_.HasAvailable());
  EXPECT_EQ(Pop(), Pops::kHead);
  EXPECT_EQ(id_, 3);
  EXPECT_EQ(Pop(), Pops::kHead);
  EXPECT_EQ(id_, 5);
  EXPECT_EQ(Pop(), Pops::kEmpty);
  EXPECT_FALSE(queue_.HasAvailable());
}

TEST_F(PackedDeviceQueueTest, GoesRoundTheRingManyTimes) {
  for (std::uint32_t i = 0; i < 10 * kSize + 3; ++i) {
    const bool wrap = wrap_;
    const std::uint32_t place = place_;
    ASSERT_TRUE(Do(static_cast<std::uint16_t>(i % kSize))) << i;
    EXPECT_TRUE(IsUsed(place, wrap));
    EXPECT_EQ(layout_.packed[place].id, i % kSize);
  }
  EXPECT_EQ(queue_.position(), place_ | (wrap_ ? virtio::kPackedPlaceWrap : 0));
}

TEST_F(PackedDeviceQueueTest, BeginsInTheMiddleOfALaterLap) {
  Attach(kSize, false, 5);  // place 5, second lap
  EXPECT_EQ(Pop(), Pops::kEmpty);
  EXPECT_TRUE(Do(1));
  EXPECT_TRUE(IsUsed(5, false));
  EXPECT_EQ(queue_.position(), 6);
}

TEST_F(PackedDeviceQueueTest, ReturnsInTheOrderOfTheRing) {
  for (const std::uint16_t id : {4, 2, 7}) {
    Offer(id);
    ASSERT_EQ(Pop(), Pops::kHead);
  }
  queue_.PushUsed(2, 11);
  EXPECT_FALSE(queue_.HasUnpublished());
  EXPECT_TRUE(virtio::IsPackedAvailable(layout_.packed[0].flags, true));
  queue_.PushUsed(4, 22);
  EXPECT_TRUE(queue_.HasUnpublished());
  queue_.Publish();
  EXPECT_EQ(layout_.packed[0].id, 4);
  EXPECT_EQ(layout_.packed[0].length, 22U);
  EXPECT_EQ(layout_.packed[0].flags & kDescriptorWrite, kDescriptorWrite);
  EXPECT_TRUE(IsUsed(1, true));
  EXPECT_FALSE(IsUsed(2, true));
  EXPECT_EQ(queue_.position(), 2 | kStart);
}

TEST_F(PackedDeviceQueueTest, AChainMayGoRoundTheEndOfTheRing) {
  for (std::uint16_t i = 0; i < kSize - 1; ++i) ASSERT_TRUE(Do(i));
  Offer(0, 0x4000, 16, kDescriptorNext);
  Offer(0, 0x5000, 512, kDescriptorNext | kDescriptorWrite);
  Offer(6, 0x6000, 1, kDescriptorWrite);
  ASSERT_EQ(Pop(), Pops::kHead);
  EXPECT_EQ(id_, 6);  // of the last descriptor
  EXPECT_EQ(queue_.CountOf(6), 3);
  ASSERT_EQ(Read(), ChainResult::kOk);
  EXPECT_EQ(chain_.list.count, 3U);
  EXPECT_EQ(chain_.readable_bytes, 16U);
  EXPECT_EQ(chain_.writable_bytes, 513U);
  queue_.Unpop(6);
  ASSERT_EQ(Pop(), Pops::kHead);
  queue_.PushUsed(6, 513);
  queue_.Publish();
  EXPECT_TRUE(IsUsed(kSize - 1, true));
  EXPECT_EQ(queue_.position(), 2);  // second lap
  EXPECT_TRUE(Do(1));
}

TEST_F(PackedDeviceQueueTest, RejectsAnIdBeyondTheRing) {
  Offer(kSize);
  ExpectPopFault(RingFault::kHeadOutOfRange);
}

TEST_F(PackedDeviceQueueTest, RejectsAnIdThatIsInFlight) {
  Offer(2);
  ASSERT_EQ(Pop(), Pops::kHead);
  Offer(2);
  ExpectPopFault(RingFault::kHeadInUse);
}

TEST_F(PackedDeviceQueueTest, RejectsDescriptorsThatWereNotReturnedYet) {
  for (std::uint16_t i = 0; i < kSize - 1; ++i) {  // one id is left
    Offer(i, 0x4000, 16);
    ASSERT_EQ(Pop(), Pops::kHead);
  }
  Offer(0, 0x4000, 16, kDescriptorNext);
  Offer(kSize - 1, 0x4000, 16);  // in the place of the first, which is in flight
  ExpectPopFault(RingFault::kIndexJumped);
}

TEST_F(PackedDeviceQueueTest, RejectsAChainWithoutEnd) {
  for (std::uint32_t i = 0; i < kSize; ++i) Offer(0, 0x4000, 16, kDescriptorNext);
  ExpectPopFault(RingFault::kChainTooLong);
}

TEST_F(PackedDeviceQueueTest, RejectsAChainLongerThanAnyRequestNeeds) {
  Attach(512);
  for (std::uint32_t i = 0; i < kChainDescriptorsMax; ++i) Offer(0, 0x4000, 16, kDescriptorNext);
  Offer(0, 0x4000, 16);
  ExpectPopFault(RingFault::kChainTooLong);
}

TEST_F(PackedDeviceQueueTest, RejectsWhatNoDescriptorMaySay) {
  Offer(1, 0x4000, 0);
  ExpectReadFault(RingFault::kEmptyDescriptor);
  Offer(1, kMemoryBytes - 8, 9);
  ExpectReadFault(RingFault::kBadAddress);
  Offer(1, UINT64_MAX - kGuest - 4, 16);
  ExpectReadFault(RingFault::kBadAddress);
  Offer(1, 0x8000, 48, kDescriptorIndirect | kDescriptorNext);
  Offer(1, 0x4000, 16);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
  for (const std::uint32_t bytes : {0U, 8U, 17U, (kChainDescriptorsMax + 1) * 16}) {
    Offer(1, 0x8000, bytes, kDescriptorIndirect);
    ExpectReadFault(RingFault::kIndirectBadLength);
  }
  Offer(1, 0x4000, 16, kDescriptorNext | kDescriptorWrite);
  Offer(1, 0x5000, 16);
  ExpectReadFault(RingFault::kReadAfterWrite);
  *memory_.At<PackedDescriptor>(0x8000) = {kGuest + 0x9000, 16, 0, kDescriptorIndirect};
  Offer(1, 0x8000, 16, kDescriptorIndirect);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
  layout_.has_indirect = false;
  queue_.Move(layout_);
  *memory_.At<PackedDescriptor>(0x8000) = {kGuest + 0x9000, 16, 0, 0};
  Offer(1, 0x8000, 16, kDescriptorIndirect);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
}

// Whatever is changed in a valid table: what the short way takes, the long way takes alike.
TEST_F(PackedDeviceQueueTest, TheShortWayTakesNothingThatTheLongOneRefuses) {
  constexpr std::uint64_t kEnd = kGuest + kMemoryBytes;
  const std::uint64_t addresses[] = {0,        kGuest - 1, kGuest, kEnd - 4096, kEnd - 16,
                                     kEnd - 1, kEnd,       ~0ULL,  ~0ULL - 15,  kGuest + 0xb000};
  const std::uint32_t lengths[] = {0, 1, 15, 16, 17, 48, 512, 4096, 4097, 0x10000, ~0U};
  const std::uint16_t flags[] = {0, 1, 2, 3, 4, 6, 0x8080, 0xffff};
  std::mt19937 random(7);
  const auto one_of = [&](const auto& from) { return from[random() % std::size(from)]; };
  int taken = 0;
  for (int round = 0; round < 20'000; ++round) {
    auto* table = memory_.At<PackedDescriptor>(0x8000);
    const bool is_read = random() % 2 == 0;
    table[0] = {kGuest + 0x8030, 16, 0, 0};
    table[1] = {kGuest + 0xa000, 4096, 0, is_read ? kDescriptorWrite : std::uint16_t{0}};
    table[2] = {kGuest + 0x8040, 1, 0, kDescriptorWrite};
    for (std::uint32_t change = 0; change < random() % 3; ++change) {
      PackedDescriptor& victim = table[random() % 3];
      if (random() % 3 == 0) victim.address = one_of(addresses);
      if (random() % 3 == 0) victim.length = one_of(lengths);
      if (random() % 3 == 0) victim.flags = one_of(flags);
    }
    Offer(1, 0x8000, random() % 8 == 0 ? one_of(lengths) : 48, kDescriptorIndirect);
    ASSERT_EQ(Pop(), Pops::kHead);
    SmallChain small;
    const bool is_small = queue_.ReadSmallChain(id_, view_, small);
    const ChainResult read = Read();
    if (is_small) {
      ++taken;
      ASSERT_EQ(read, ChainResult::kOk) << round;
      ASSERT_EQ(chain_.readable_bytes + chain_.writable_bytes, 17 + small.data.iov_len);
      ASSERT_EQ(chain_.list.segments[0].iov_base, small.header);
    }
    queue_.PushUsed(id_, 0);
    queue_.Publish();
  }
  EXPECT_GT(taken, 1000);
}

TEST_F(PackedDeviceQueueTest, SaysWhetherItWantsToBeNotified) {
  const PackedEvent& event = *layout_.device_event;
  EXPECT_EQ(event.flags, virtio::kPackedEventNever);
  queue_.ArmNotifications();
  EXPECT_EQ(event.flags, virtio::kPackedEventAlways);
  queue_.SuppressNotifications();
  EXPECT_EQ(event.flags, virtio::kPackedEventNever);
  Attach(kSize, true);
  ASSERT_TRUE(Do(0));
  queue_.ArmNotifications();
  EXPECT_EQ(event.flags, virtio::kPackedEventAt);
  EXPECT_EQ(event.place, 1 | virtio::kPackedPlaceWrap);
}

TEST_F(PackedDeviceQueueTest, InterruptsAsTheDriverAsked) {
  const auto wants = [&](std::uint16_t id) {
    Offer(id);
    EXPECT_EQ(Pop(), Pops::kHead);
    queue_.PushUsed(id, 0);
    return queue_.Publish();
  };
  DriverEvent().flags = virtio::kPackedEventAlways;
  EXPECT_TRUE(wants(0));
  DriverEvent().flags = virtio::kPackedEventNever;
  EXPECT_FALSE(wants(0));
  memset(memory_.base(), 0, 0x1000);
  Attach(kSize, true);
  // Every place of three laps is asked for once, and interrupts once.
  DriverEvent().flags = virtio::kPackedEventAt;
  for (std::uint32_t target = 3; target < 3 * kSize; target += 5) {
    const bool wrap = target / kSize % 2 == 0;
    DriverEvent().place =
        static_cast<std::uint16_t>(target % kSize | (wrap ? virtio::kPackedPlaceWrap : 0));
    static std::uint32_t done = 0;
    for (; done <= target; ++done) EXPECT_EQ(wants(0), done == target) << done << ' ' << target;
  }
}

// Another thread makes the descriptors, and the table they point to, good and bad in turn. Whatever
// is taken lies in memory; nothing is read twice and believed.
TEST_F(PackedDeviceQueueTest, BelievesEachFieldOnceWhileItIsRewritten) {
  std::atomic<bool> is_over = false;
  std::thread driver([&] {
    std::minstd_rand random(1);  // NOLINT: the same every time
    constexpr std::uint64_t kAddresses[] = {
        0, kGuest - 1, kGuest + 0x4000, kGuest + 0x8000, kGuest + kMemoryBytes - 1, UINT64_MAX - 8};
    constexpr std::uint32_t kLengths[] = {0, 1, 16, 48, 512, UINT32_MAX};
    constexpr std::uint16_t kFlags[] = {virtio::kPackedAvail,
                                        virtio::kPackedAvail | kDescriptorWrite,
                                        virtio::kPackedAvail | kDescriptorIndirect};
    while (!is_over.load(std::memory_order_relaxed)) {
      auto& target = random() % 2 == 0 ? layout_.packed[random() % kSize]
                                       : memory_.At<PackedDescriptor>(0x8000)[random() % 3];
      virtio::StoreOnce(target.address, kAddresses[random() % std::size(kAddresses)]);
      virtio::StoreOnce(target.length, kLengths[random() % std::size(kLengths)]);
      virtio::StoreOnce(target.id, static_cast<std::uint16_t>(random() % (kSize + 2)));
      virtio::StoreOnce(target.flags, random() % 2 == 0 ? kFlags[random() % std::size(kFlags)]
                                                        : static_cast<std::uint16_t>(random()));
    }
  });
  const auto lies_in_memory = [&](const iovec& piece) {
    const auto* at = static_cast<const std::byte*>(piece.iov_base);
    SegmentList all;
    IotlbMiss miss;
    EXPECT_EQ(view_.Translate(kGuest, kMemoryBytes, 0, all, miss), TranslateStatus::kOk);
    const auto* first = static_cast<const std::byte*>(all.segments[0].iov_base);
    return at >= first && piece.iov_len <= kMemoryBytes &&
           static_cast<std::size_t>(at - first) <= kMemoryBytes - piece.iov_len;
  };
  int taken = 0;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (taken < 100 && std::chrono::steady_clock::now() < give_up) {
    if (Pop() != Pops::kHead) {
      queue_.Attach(layout_, kStart);
      std::this_thread::yield();  // the other thread may want this processor
      continue;
    }
    ASSERT_LT(id_, kSize);
    SmallChain small;
    if (queue_.ReadSmallChain(id_, view_, small)) {
      EXPECT_TRUE(lies_in_memory(small.data));
    }
    if (Read() == ChainResult::kOk) {
      ++taken;
      for (std::uint32_t i = 0; i < chain_.list.count; ++i) {
        ASSERT_TRUE(lies_in_memory(chain_.list.segments[i]));
      }
    }
    queue_.PushUsed(id_, 0);
    queue_.Publish();
  }
  is_over = true;
  driver.join();
  EXPECT_EQ(taken, 100);
}

}  // namespace
}  // namespace filer::bridge
