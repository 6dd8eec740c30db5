#include "tests/sim/crash_states.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine::sim {
namespace {

std::unique_ptr<SimDevice> Recording(SimOptions options = {}) {
  auto device = SimDevice::Create(options).value();
  device->StartRecord();
  return device;
}

std::vector<std::byte> Filled(std::size_t size, int value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

void Write(SimDevice& device, std::uint64_t offset, std::size_t size, int value) {
  ASSERT_TRUE(WriteBlocking(device, offset, Filled(size, value)).has_value());
}

// One character per sector from 0 on: what an image holds there.
std::string Sectors(const SimImage& image, std::size_t count) {
  std::string text;
  for (std::size_t at = 0; at < count; ++at) {
    std::byte byte;
    image.Read(at * kSectorBytes, {&byte, 1});
    text += static_cast<char>('0' + static_cast<int>(byte));
  }
  return text;
}

// The states of each epoch, as the sectors of their images.
std::vector<std::set<std::string>> AllStates(const SimRecord& record, std::size_t sectors,
                                             const CrashStateOptions& options = {}) {
  std::vector<std::set<std::string>> all;
  EachEpoch(record, [&](const FlushEpoch& epoch) {
    auto& states = all.emplace_back();
    EachState(epoch, options, [&](const KeptWrites& kept) {
      states.insert(Sectors(epoch.Image(kept), sectors));
      return true;
    });
    return true;
  });
  return all;
}

TEST(CrashStates, OfAnEpochAreAllSubsetsOnTopOfWhatWasFlushed) {
  const auto device = Recording();
  Write(*device, 0, 512, 1);
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  Write(*device, 512, 512, 2);
  Write(*device, 1024, 512, 3);
  const auto states = AllStates(device->TakeRecord(), 3);
  ASSERT_EQ(states.size(), 2U);
  EXPECT_EQ(states[0], (std::set<std::string>{"000", "100"}));
  EXPECT_EQ(states[1], (std::set<std::string>{"100", "120", "103", "123"}));
}

TEST(CrashStates, AFlushCoversWhatHadCompletedWhenItWasSubmitted) {
  const auto device = Recording({.completes_in_order = true});
  const BufferRef buffer = device->Pool().Allocate(4096).value();
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{7});
  const iovec segment = {buffer.data(), 512};
  BlockRequest write;
  write.operation = BlockOperation::kWrite;
  write.length_bytes = 512;
  write.segments = {&segment, 1};
  BlockRequest flush;
  flush.operation = BlockOperation::kFlush;
  ASSERT_TRUE(device->Submit(write).has_value());
  ASSERT_TRUE(device->Submit(flush).has_value());
  ASSERT_EQ(device->Poll(10), 2U);
  const auto states = AllStates(device->TakeRecord(), 1);
  ASSERT_EQ(states.size(), 2U);
  EXPECT_EQ(states[1], (std::set<std::string>{"0", "7"}));
}

TEST(CrashStates, AWriteInFlightMayBeThere) {
  const auto device = Recording();
  const BufferRef buffer = device->Pool().Allocate(4096).value();
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{7});
  const iovec segment = {buffer.data(), 512};
  BlockRequest write;
  write.operation = BlockOperation::kWrite;
  write.length_bytes = 512;
  write.segments = {&segment, 1};
  ASSERT_TRUE(device->Submit(write).has_value());
  EXPECT_EQ(AllStates(device->TakeRecord(), 1).back(), (std::set<std::string>{"0", "7"}));
  EXPECT_EQ(device->Poll(1), 1U);
}

TEST(CrashStates, AFailedFlushPromisesNothing) {
  const auto device = Recording();
  Write(*device, 0, 512, 1);
  device->FailRequest(1);
  ASSERT_FALSE(FlushBlocking(*device).has_value());
  const auto states = AllStates(device->TakeRecord(), 1);
  ASSERT_EQ(states.size(), 1U);
  EXPECT_EQ(states[0], (std::set<std::string>{"0", "1"}));
}

TEST(CrashStates, WithoutAVolatileCacheWhatCompletedIsThere) {
  const auto device = Recording({.has_volatile_cache = false});
  Write(*device, 0, 512, 1);
  Write(*device, 512, 512, 2);
  const auto states = AllStates(device->TakeRecord(), 2);
  ASSERT_EQ(states.size(), 3U);
  EXPECT_EQ(states[0], (std::set<std::string>{"00", "10"}));
  EXPECT_EQ(states[1], (std::set<std::string>{"10", "12"}));
  EXPECT_EQ(states[2], (std::set<std::string>{"12"}));
}

TEST(CrashStates, AWriteIsTornAtSectorsAndBlocks) {
  const auto device = Recording();
  Write(*device, 0, 8192, 5);
  const auto states = AllStates(device->TakeRecord(), 16).front();
  for (std::size_t cut = 0; cut <= 16; ++cut) {
    EXPECT_TRUE(states.contains(std::string(cut, '5') + std::string(16 - cut, '0'))) << cut;
  }
  EXPECT_TRUE(states.contains("0000000055555555"));
  EXPECT_TRUE(states.contains("5555555555555550"));
  EXPECT_TRUE(states.contains("0000000000000001") == false);
}

TEST(CrashStates, OfManyPendingWritesArePrefixesSinglesAndRandomOnes) {
  const auto device = Recording();
  for (unsigned at = 0; at < 12; ++at) Write(*device, at * 512, 512, 1);
  const auto states = AllStates(device->TakeRecord(), 12).front();
  for (std::size_t at = 0; at <= 12; ++at) {
    EXPECT_TRUE(states.contains(std::string(at, '1') + std::string(12 - at, '0')));
    if (at == 12) break;
    std::string one(12, '0');
    one[at] = '1';
    EXPECT_TRUE(states.contains(one));
    std::string others(12, '1');
    others[at] = '0';
    EXPECT_TRUE(states.contains(others));
  }
  EXPECT_GT(states.size(), 90U);
}

TEST(CrashStates, HaveTheSameHashWhenTheyHaveTheSameBytes) {
  const auto device = Recording();
  Write(*device, 0, 4096, 1);
  Write(*device, 8192, 4096, 0);
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  Write(*device, 0, 1024, 2);
  Write(*device, 0, 4096, 1);
  Write(*device, 4096, 512, 3);
  EachEpoch(device->TakeRecord(), [&](const FlushEpoch& epoch) {
    std::map<std::uint64_t, SimImage> images;
    EachState(epoch, {}, [&](const KeptWrites& kept) {
      const SimImage image = epoch.Image(kept);
      const auto [known, is_new] = images.emplace(epoch.Hash(kept), image);
      EXPECT_TRUE(known->second.SameContents(image)) << epoch.Text(kept);
      return true;
    });
    for (auto left = images.begin(); left != images.end(); ++left) {
      for (auto right = std::next(left); right != images.end(); ++right) {
        EXPECT_FALSE(left->second.SameContents(right->second));
      }
    }
    return true;
  });
}

TEST(CrashStates, AMarkBelongsToTheEpochThatItLiesIn) {
  const auto device = Recording();
  Write(*device, 0, 512, 1);
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  device->Mark(1);
  Write(*device, 0, 512, 2);
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  device->Mark(2);
  std::vector<std::uint64_t> marks;
  EachEpoch(device->TakeRecord(), [&](const FlushEpoch& epoch) {
    marks.push_back(epoch.mark());
    return true;
  });
  EXPECT_EQ(marks, (std::vector<std::uint64_t>{0, 1, 2}));
}

TEST(SimRecord, SeesABufferThatChangesWhileItIsWritten) {
  const auto device = Recording();
  const BufferRef buffer = device->Pool().Allocate(4096).value();
  buffer.bytes()[0] = std::byte{1};
  const iovec segment = {buffer.data(), 512};
  BlockRequest write;
  write.operation = BlockOperation::kWrite;
  write.length_bytes = 512;
  write.segments = {&segment, 1};
  ASSERT_TRUE(device->Submit(write).has_value());
  buffer.bytes()[0] = std::byte{2};
  ASSERT_EQ(device->Poll(1), 1U);
  EXPECT_TRUE(device->TakeRecord().requests.front().changed_in_flight);
}

}  // namespace
}  // namespace filer::engine::sim
