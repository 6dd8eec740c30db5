#include "host-bridge/target/device_queue.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {
namespace {

using virtio::Descriptor;
using virtio::kDescriptorIndirect;
using virtio::kDescriptorNext;
using virtio::kDescriptorWrite;

constexpr std::uint64_t kGuest = 0x100000;  // guest address of the memory
constexpr std::uint32_t kSize = 8;
constexpr std::size_t kMemoryBytes = 64 << 10;

class DeviceQueueTest : public testing::Test {
 protected:
  DeviceQueueTest() : memory_(kMemoryBytes) {
    const RegionSpec spec{kGuest, kMemoryBytes, 0x7f0000000000, 0};
    EXPECT_TRUE(space_.memory().Add(spec, memory_.DupFd()).has_value());
    Attach(0);
  }
  void Attach(std::uint16_t base, bool has_event_index = false) {
    layout_ = {memory_.At<Descriptor>(0),
               memory_.At<virtio::AvailRing>(0x1000),
               memory_.At<virtio::UsedRing>(0x2000),
               kSize,
               has_event_index,
               true};
    queue_.Attach(layout_, base);
  }
  void Describe(std::uint32_t index, std::uint64_t offset, std::uint32_t length,
                std::uint16_t flags = 0, std::uint16_t next = 0) {
    layout_.descriptors[index] = {kGuest + offset, length, flags, next};
  }
  void Offer(std::uint16_t head) {
    layout_.avail->ring[layout_.avail->index % kSize] = head;
    virtio::StoreRelease(layout_.avail->index,
                         static_cast<std::uint16_t>(layout_.avail->index + 1));
  }
  DeviceQueue::PopResult Pop() { return queue_.Pop(head_, fault_); }
  DeviceQueue::ReadResult Read(std::uint16_t head = 0) {
    return queue_.ReadChain(head, view_, chain_, miss_, fault_);
  }
  void ExpectReadFault(RingFault fault, std::uint16_t head = 0) {
    EXPECT_EQ(Read(head), DeviceQueue::ReadResult::kFault);
    EXPECT_EQ(fault_, fault) << RingFaultText(fault_);
  }

  FakeMemory memory_;
  AddressSpace space_;
  const AddressView view_{space_};
  RingLayout layout_;
  DeviceQueue queue_;
  Chain chain_;
  IotlbMiss miss_;
  std::uint16_t head_ = 0;
  RingFault fault_ = RingFault::kNone;
};

TEST_F(DeviceQueueTest, PopsWhatWasPublishedOnceEach) {
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kEmpty);
  Offer(3);
  Offer(5);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  EXPECT_EQ(head_, 3);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  EXPECT_EQ(head_, 5);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kEmpty);
}

TEST_F(DeviceQueueTest, IndexWrapsAt65536) {
  layout_.avail->index = 0xffff;
  layout_.used->index = 0xffff;
  Attach(0xffff);
  Offer(1);
  EXPECT_EQ(layout_.avail->index, 0);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  EXPECT_EQ(head_, 1);
  queue_.PushUsed(1, 9);
  queue_.Publish();
  EXPECT_EQ(layout_.used->index, 0);
  EXPECT_EQ(layout_.used->ring[0xffff % kSize].id, 1u);
}

TEST_F(DeviceQueueTest, RejectsIndexThatJumps) {
  layout_.avail->index = kSize + 1;
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kFault);
  EXPECT_EQ(fault_, RingFault::kIndexJumped);
}

TEST_F(DeviceQueueTest, RejectsIndexThatGoesBack) {
  Offer(0);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  layout_.avail->index = 0;
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kFault);
  EXPECT_EQ(fault_, RingFault::kIndexJumped);
}

TEST_F(DeviceQueueTest, RejectsHeadBeyondQueueSize) {
  Offer(kSize);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kFault);
  EXPECT_EQ(fault_, RingFault::kHeadOutOfRange);
}

TEST_F(DeviceQueueTest, RejectsTheSameHeadTwiceUntilItWasReturned) {
  Offer(2);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  queue_.PushUsed(2, 0);
  Offer(2);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  Offer(2);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kFault);
  EXPECT_EQ(fault_, RingFault::kHeadInUse);
}

TEST_F(DeviceQueueTest, UnpopGivesTheHeadAgain) {
  Offer(2);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  queue_.Unpop(2);
  EXPECT_EQ(Pop(), DeviceQueue::PopResult::kHead);
  EXPECT_EQ(head_, 2);
}

TEST_F(DeviceQueueTest, ReadsAChainOfReadableThenWritable) {
  Describe(0, 0x4000, 16, kDescriptorNext, 1);
  Describe(1, 0x5000, 512, kDescriptorNext | kDescriptorWrite, 2);
  Describe(2, 0x6000, 1, kDescriptorWrite);
  ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk);
  EXPECT_EQ(chain_.list.count, 3u);
  EXPECT_EQ(chain_.readable_count, 1u);
  EXPECT_EQ(chain_.readable_bytes, 16u);
  EXPECT_EQ(chain_.writable_bytes, 513u);
}

TEST_F(DeviceQueueTest, NeverMergesReadableWithWritableNeighbours) {
  Describe(0, 0x4000, 16, kDescriptorNext, 1);
  Describe(1, 0x4010, 512, kDescriptorWrite);
  ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk);
  EXPECT_EQ(chain_.list.count, 2u);
  EXPECT_EQ(chain_.readable_count, 1u);
}

TEST_F(DeviceQueueTest, RejectsLoop) {
  Describe(0, 0x4000, 16, kDescriptorNext, 1);
  Describe(1, 0x5000, 16, kDescriptorNext, 0);
  ExpectReadFault(RingFault::kChainTooLong);
}

TEST_F(DeviceQueueTest, RejectsNextBeyondRing) {
  Describe(0, 0x4000, 16, kDescriptorNext, kSize);
  ExpectReadFault(RingFault::kNextOutOfRange);
}

TEST_F(DeviceQueueTest, RejectsEmptyDescriptor) {
  Describe(0, 0x4000, 0);
  ExpectReadFault(RingFault::kEmptyDescriptor);
}

TEST_F(DeviceQueueTest, RejectsReadableBehindWritable) {
  Describe(0, 0x4000, 16, kDescriptorNext | kDescriptorWrite, 1);
  Describe(1, 0x5000, 16);
  ExpectReadFault(RingFault::kReadAfterWrite);
}

TEST_F(DeviceQueueTest, RejectsAddressOutsideMemory) {
  layout_.descriptors[0] = {kGuest - 1, 16, 0, 0};
  ExpectReadFault(RingFault::kBadAddress);
  Describe(0, kMemoryBytes, 1);
  ExpectReadFault(RingFault::kBadAddress);
}

TEST_F(DeviceQueueTest, RejectsRangeThatLeavesMemory) {
  Describe(0, kMemoryBytes - 8, 9);
  ExpectReadFault(RingFault::kBadAddress);
}

TEST_F(DeviceQueueTest, RejectsAddressPlusLengthThatWraps) {
  layout_.descriptors[0] = {UINT64_MAX - 4, 16, 0, 0};
  ExpectReadFault(RingFault::kBadAddress);
}

TEST_F(DeviceQueueTest, ReadsIndirectTableFromACopy) {
  auto* table = memory_.At<Descriptor>(0x8000);
  table[0] = {kGuest + 0x4000, 16, kDescriptorNext, 2};
  table[2] = {kGuest + 0x5000, 1, kDescriptorWrite, 0};
  Describe(0, 0x8000, 3 * sizeof(Descriptor), kDescriptorIndirect);
  ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk);
  EXPECT_EQ(chain_.list.count, 2u);
}

TEST_F(DeviceQueueTest, RejectsNestedIndirect) {
  *memory_.At<Descriptor>(0x8000) = {kGuest + 0x9000, 16, kDescriptorIndirect, 0};
  Describe(0, 0x8000, sizeof(Descriptor), kDescriptorIndirect);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
}

TEST_F(DeviceQueueTest, RejectsIndirectWithNext) {
  *memory_.At<Descriptor>(0x8000) = {kGuest + 0x4000, 16, 0, 0};
  Describe(0, 0x8000, sizeof(Descriptor), kDescriptorIndirect | kDescriptorNext, 1);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
}

TEST_F(DeviceQueueTest, RejectsIndirectWithoutTheFeature) {
  layout_.has_indirect = false;
  queue_.Move(layout_);
  *memory_.At<Descriptor>(0x8000) = {kGuest + 0x4000, 16, 0, 0};
  Describe(0, 0x8000, sizeof(Descriptor), kDescriptorIndirect);
  ExpectReadFault(RingFault::kIndirectNotAllowed);
}

TEST_F(DeviceQueueTest, RejectsIndirectTableOfBadLength) {
  for (const std::uint32_t bytes : {0U, 8U, 17U, (kChainDescriptorsMax + 1) * 16}) {
    Describe(0, 0x8000, bytes, kDescriptorIndirect);
    ExpectReadFault(RingFault::kIndirectBadLength);
  }
}

TEST_F(DeviceQueueTest, RejectsLoopAndStrayNextInIndirectTable) {
  auto* table = memory_.At<Descriptor>(0x8000);
  table[0] = {kGuest + 0x4000, 16, kDescriptorNext, 1};
  table[1] = {kGuest + 0x5000, 16, kDescriptorNext, 0};
  Describe(0, 0x8000, 2 * sizeof(Descriptor), kDescriptorIndirect);
  ExpectReadFault(RingFault::kChainTooLong);
  table[1].next = 2;
  ExpectReadFault(RingFault::kNextOutOfRange);
}

TEST_F(DeviceQueueTest, ReadsAnIndirectTableAtTheEndOfAChain) {
  *memory_.At<Descriptor>(0x8000) = {kGuest + 0x5000, 1, kDescriptorWrite, 0};
  Describe(0, 0x4000, 16, kDescriptorNext, 1);
  Describe(1, 0x8000, sizeof(Descriptor), kDescriptorIndirect);
  ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk);
  EXPECT_EQ(chain_.list.count, 2u);
}

TEST_F(DeviceQueueTest, RejectsAChainLongerThanAnyRequestNeeds) {
  constexpr std::uint32_t kLong = 512;
  layout_ = {memory_.At<Descriptor>(0),
             memory_.At<virtio::AvailRing>(0x3000),
             memory_.At<virtio::UsedRing>(0x4000),
             kLong,
             false,
             true};
  queue_.Attach(layout_, 0);
  for (const std::uint32_t length : {kChainDescriptorsMax, kChainDescriptorsMax + 1}) {
    for (std::uint32_t i = 0; i < length; ++i) {
      const bool is_last = i + 1 == length;
      Describe(i, 0x8000 + 2 * i, 1, is_last ? 0 : kDescriptorNext,
               static_cast<std::uint16_t>(i + 1));
    }
    if (length == kChainDescriptorsMax) {
      EXPECT_EQ(Read(), DeviceQueue::ReadResult::kOk);
    } else {
      ExpectReadFault(RingFault::kChainTooLong);
    }
  }
}

TEST_F(DeviceQueueTest, RejectsMorePiecesThanItHasRoomFor) {
  auto* table = memory_.At<Descriptor>(0x8000);
  for (std::uint32_t i = 0; i < kChainDescriptorsMax; ++i) {
    table[i] = {kGuest + 0xa000 + 2 * i, 1, kDescriptorNext, static_cast<std::uint16_t>(i + 1)};
  }
  table[kChainDescriptorsMax - 1].flags = 0;
  Describe(0, 0x4000, 16, kDescriptorNext, 1);
  Describe(1, 0x8000, kChainDescriptorsMax * sizeof(Descriptor), kDescriptorIndirect);
  ExpectReadFault(RingFault::kChainTooLong);
}

TEST_F(DeviceQueueTest, ReadsAnIndirectTableAcrossTwoRegions) {
  FakeMemory second(0x1000);
  ASSERT_TRUE(space_.memory()
                  .Add({kGuest + kMemoryBytes, 0x1000, 0x7f1000000000, 0}, second.DupFd())
                  .has_value());
  const Descriptor header{kGuest + 0x4000, 16, kDescriptorNext, 1};
  const Descriptor status{kGuest + 0x5000, 1, kDescriptorWrite, 0};
  // The first descriptor itself lies across the border.
  std::memcpy(memory_.base() + kMemoryBytes - 8, &header, 8);
  std::memcpy(second.base(), reinterpret_cast<const std::byte*>(&header) + 8, 8);
  std::memcpy(second.base() + 8, &status, sizeof(status));
  Describe(0, kMemoryBytes - 8, 2 * sizeof(Descriptor), kDescriptorIndirect);
  ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk);
  EXPECT_EQ(chain_.readable_bytes, 16u);
  EXPECT_EQ(chain_.writable_bytes, 1u);
}

TEST_F(DeviceQueueTest, RejectsIndirectTableOutsideMemory) {
  Describe(0, kMemoryBytes - 16, 32, kDescriptorIndirect);
  ExpectReadFault(RingFault::kBadAddress);
}

// Header, data and status in one indirect table, as our driver and others build it.
class SmallChainTest : public DeviceQueueTest {
 protected:
  void Build(bool is_read) {
    Describe(0, 0x8000, 48, kDescriptorIndirect);
    auto* table = memory_.At<Descriptor>(0x8000);
    const std::uint16_t data_flags = is_read ? kDescriptorNext | kDescriptorWrite : kDescriptorNext;
    table[0] = {kGuest + 0x8030, 16, kDescriptorNext, 1};
    table[1] = {kGuest + 0xa000, 4096, data_flags, 2};
    table[2] = {kGuest + 0x8040, 1, kDescriptorWrite, 0};
    EXPECT_EQ(Read(), DeviceQueue::ReadResult::kOk);  // also: the region is known from now on
  }
  bool ReadSmall() { return queue_.ReadSmallChain(0, view_, small_); }

  DeviceQueue::SmallChain small_{};
};

TEST_F(SmallChainTest, ReadsWhatReadChainReads) {
  for (const bool is_read : {false, true}) {
    Build(is_read);
    ASSERT_TRUE(ReadSmall());
    EXPECT_EQ(small_.is_data_writable, is_read);
    ASSERT_EQ(chain_.list.count, 3U);
    EXPECT_EQ(chain_.list.segments[0].iov_base, small_.header);
    EXPECT_EQ(chain_.list.segments[1].iov_base, small_.data.iov_base);
    EXPECT_EQ(chain_.list.segments[1].iov_len, small_.data.iov_len);
    EXPECT_EQ(chain_.list.segments[2].iov_base, small_.status_byte);
  }
}

TEST_F(SmallChainTest, LeavesTheIommuAndMissingFeatureToReadChain) {
  Build(true);
  space_.UseIotlb(true);
  EXPECT_FALSE(ReadSmall());
  space_.UseIotlb(false);
  layout_.has_indirect = false;
  queue_.Move(layout_);
  EXPECT_FALSE(ReadSmall());
}

// Whatever is changed in a valid chain: what the short way takes, the long way takes alike.
TEST_F(SmallChainTest, TakesNothingThatReadChainRefuses) {
  constexpr std::uint64_t kEnd = kGuest + kMemoryBytes;
  const std::uint64_t addresses[] = {0,           kGuest - 1, kGuest,         kGuest + 1,
                                     kEnd - 4096, kEnd - 16,  kEnd - 1,       kEnd,
                                     ~0ULL,       ~0ULL - 15, kGuest + 0xb000};
  const std::uint32_t lengths[] = {0, 1, 15, 16, 17, 47, 48, 49, 512, 4096, 4097, 0x10000, ~0U};
  const std::uint16_t words[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 0x8001, 0xffff};
  std::mt19937 random(7);
  const auto one_of = [&](const auto& from) { return from[random() % std::size(from)]; };
  int taken = 0;
  for (int round = 0; round < 50'000; ++round) {
    Build(random() % 2 == 0);
    for (std::uint32_t change = 0; change < 1 + random() % 3; ++change) {
      const std::uint32_t which = random() % 4;
      Descriptor& victim =
          which == 3 ? layout_.descriptors[0] : memory_.At<Descriptor>(0x8000)[which];
      switch (random() % 4) {
        case 0:
          victim.address = one_of(addresses);
          break;
        case 1:
          victim.length = one_of(lengths);
          break;
        case 2:
          victim.flags = one_of(words);
          break;
        default:
          victim.next = one_of(words);
          break;
      }
    }
    if (!ReadSmall()) continue;
    ++taken;
    ASSERT_EQ(Read(), DeviceQueue::ReadResult::kOk) << round;
    ASSERT_EQ(chain_.readable_bytes + chain_.writable_bytes, 17 + small_.data.iov_len);
    ASSERT_EQ(chain_.list.segments[0].iov_base, small_.header);
  }
  EXPECT_GT(taken, 1000);
}

TEST_F(DeviceQueueTest, WritesUsedElementsAnewAfterAttach) {
  Describe(0, 0x4000, 16);
  for (int round = 0; round < 2; ++round) {
    layout_.avail->index = layout_.used->index = 0;
    layout_.used->ring[0] = {99, 99};  // as a driver leaves it that starts over
    Attach(0);
    Offer(0);
    ASSERT_EQ(Pop(), DeviceQueue::PopResult::kHead);
    queue_.PushUsed(head_, 17);
    queue_.Publish();
    EXPECT_EQ(layout_.used->ring[0].id, 0U);
    EXPECT_EQ(layout_.used->ring[0].length, 17U);
  }
}

TEST_F(DeviceQueueTest, PublishesAllPushedAtOnce) {
  Offer(0);
  Offer(1);
  Pop();
  Pop();
  queue_.PushUsed(1, 11);
  queue_.PushUsed(0, 22);
  EXPECT_EQ(layout_.used->index, 0);
  queue_.Publish();
  EXPECT_EQ(layout_.used->index, 2);
  EXPECT_EQ(layout_.used->ring[0].id, 1u);
  EXPECT_EQ(layout_.used->ring[0].length, 11u);
  EXPECT_FALSE(queue_.HasUnpublished());
}

TEST_F(DeviceQueueTest, InterruptsOnlyWhenTheDriverAsks) {
  Offer(0);
  Pop();
  queue_.PushUsed(0, 0);
  EXPECT_TRUE(queue_.Publish());
  layout_.avail->flags = virtio::kAvailNoInterrupt;
  Offer(0);
  Pop();
  queue_.PushUsed(0, 0);
  EXPECT_FALSE(queue_.Publish());
}

TEST_F(DeviceQueueTest, InterruptsWhenUsedEventIsPassed) {
  Attach(0, true);
  *virtio::UsedEvent(layout_.avail, kSize) = 1;  // after the second element
  for (const bool is_wanted : {false, true, false}) {
    Offer(0);
    Pop();
    queue_.PushUsed(0, 0);
    EXPECT_EQ(queue_.Publish(), is_wanted);
  }
}

TEST_F(DeviceQueueTest, PollingKeepsTheEventHalfAnIndexSpaceAway) {
  Attach(0, true);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint16_t before = layout_.avail->index;
    Offer(static_cast<std::uint16_t>(i % kSize));
    const std::uint16_t event = *virtio::AvailEvent(layout_.used, kSize);
    ASSERT_FALSE(virtio::EventPassed(event, layout_.avail->index, before)) << i;
    queue_.SuppressNotifications();
    ASSERT_EQ(Pop(), DeviceQueue::PopResult::kHead);
    queue_.PushUsed(head_, 0);
    queue_.Publish();
  }
}

TEST_F(DeviceQueueTest, ArmedEventAsksForTheNextEntry) {
  Attach(0, true);
  queue_.ArmNotifications();
  EXPECT_FALSE(queue_.HasAvailable());
  Offer(0);
  EXPECT_TRUE(virtio::EventPassed(*virtio::AvailEvent(layout_.used, kSize), 1, 0));
  EXPECT_TRUE(queue_.HasAvailable());
}

}  // namespace
}  // namespace filer::bridge
