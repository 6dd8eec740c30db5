#include "fsal/engine/device/sim_device.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {
namespace {

using Bytes = std::vector<std::byte>;

std::unique_ptr<SimDevice> Make(SimOptions options = {}) {
  return std::move(SimDevice::Create(options)).assume_value();
}

Bytes Filled(std::size_t size, int value) { return Bytes(size, static_cast<std::byte>(value)); }

std::byte At(const SimImage& image, std::uint64_t offset) {
  std::byte byte;
  image.Read(offset, {&byte, 1});
  return byte;
}

TEST(SimDevice, ReadsBackWhatWasWritten) {
  auto device = Make();
  const Bytes written = Filled(3 << 20, 5);  // longer than one request may be
  ASSERT_TRUE(WriteBlocking(*device, 4096, written).has_value());
  Bytes read(written.size() + 512);
  ASSERT_TRUE(ReadBlocking(*device, 4096, read).has_value());
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin()));
  EXPECT_EQ(read.back(), std::byte{0});
}

TEST(SimDevice, RefusesBadRequests) {
  auto device = Make({.size_bytes = 1 << 20});
  Bytes one(512);
  EXPECT_TRUE(ReadBlocking(*device, 1 << 20, one).error() == Errc::kOutOfRange);
  EXPECT_TRUE(ReadBlocking(*device, 100, one).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(ReadBlocking(*device, UINT64_MAX - 511, one).error() == Errc::kOutOfRange);
  alignas(4096) std::byte foreign[512];
  const iovec segment = {foreign, sizeof foreign};
  BlockRequest request;
  request.length_bytes = sizeof foreign;
  request.segments = {&segment, 1};
  EXPECT_TRUE(device->Submit(request).error() == Errc::kInvalidArgument);
  auto read_only = Make({.is_read_only = true});
  EXPECT_TRUE(WriteBlocking(*read_only, 0, one).error() == Errc::kReadOnly);
}

TEST(SimDevice, CrashKeepsFlushedWritesOnly) {
  auto device = Make();
  ASSERT_TRUE(WriteBlocking(*device, 0, Filled(512, 1)).has_value());
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  ASSERT_TRUE(WriteBlocking(*device, 512, Filled(512, 2)).has_value());
  EXPECT_EQ(device->UnstableCount(), 1U);
  EXPECT_EQ(At(device->StableImage(), 0), std::byte{1});
  EXPECT_EQ(At(device->StableImage(), 512), std::byte{0});
  EXPECT_EQ(At(device->CrashImageKeeping({true}), 512), std::byte{2});
  EXPECT_EQ(At(device->CurrentImage(), 512), std::byte{2});
}

TEST(SimDevice, CrashImagesCoverAllSubsetsAndNeverLoseStableData) {
  auto device = Make();
  ASSERT_TRUE(WriteBlocking(*device, 0, Filled(4096, 9)).has_value());
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(
        WriteBlocking(*device, static_cast<unsigned>(i) * 4096, Filled(512, i)).has_value());
  }
  std::set<std::string> states;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const SimImage image = device->CrashImage(seed);
    ASSERT_EQ(At(image, 4095), std::byte{9});
    std::string state;
    for (unsigned i = 1; i <= 3; ++i) state += At(image, i * 4096) == std::byte{0} ? '0' : '1';
    states.insert(state);
  }
  EXPECT_EQ(states.size(), 8U);
}

TEST(SimDevice, FlushDoesNotCoverWritesThatWereInFlight) {
  auto device = Make({.completes_in_order = true});
  BufferRef buffer = std::move(device->Pool().Allocate(4096)).assume_value();
  const iovec segment = {buffer.data(), 512};
  BlockRequest write;
  write.operation = BlockOperation::kWrite;
  write.length_bytes = 512;
  write.segments = {&segment, 1};
  BlockRequest flush;
  flush.operation = BlockOperation::kFlush;
  ASSERT_TRUE(device->Submit(write).has_value());
  ASSERT_TRUE(device->Submit(flush).has_value());
  EXPECT_EQ(device->UnstableCount(), 1U);  // in flight: may be there already
  EXPECT_EQ(device->Poll(10), 2U);
  EXPECT_TRUE(write.is_ok && flush.is_ok);
  EXPECT_EQ(device->UnstableCount(), 1U);  // done, and still not promised
}

TEST(SimDevice, FailsTheRequestItWasToldTo) {
  auto device = Make();
  const Bytes one = Filled(512, 1);
  device->FailRequest(2, Errc::kNoSpace);
  EXPECT_TRUE(WriteBlocking(*device, 0, one).has_value());
  EXPECT_TRUE(WriteBlocking(*device, 512, one).error() == Errc::kNoSpace);
  EXPECT_TRUE(WriteBlocking(*device, 512, one).has_value());
  device->FailRequest(1, Errc::kIo, true);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(FlushBlocking(*device).error() == Errc::kIo);
}

TEST(SimDevice, PowerCutStopsAllEffects) {
  auto device = Make();
  device->CutPowerAfter(1);
  EXPECT_TRUE(WriteBlocking(*device, 0, Filled(512, 1)).has_value());
  EXPECT_TRUE(WriteBlocking(*device, 0, Filled(512, 2)).error() == Errc::kDeviceGone);
  EXPECT_TRUE(FlushBlocking(*device).error() == Errc::kDeviceGone);
  EXPECT_EQ(At(device->StableImage(), 0), std::byte{0});
  EXPECT_EQ(At(device->CrashImageKeeping({true, true}), 0), std::byte{1});
  auto restarted =
      std::move(SimDevice::Create({}, device->CrashImageKeeping({true}))).assume_value();
  Bytes read(512);
  ASSERT_TRUE(ReadBlocking(*restarted, 0, read).has_value());
  EXPECT_EQ(read, Filled(512, 1));
}

TEST(SimDevice, FaultsLoseAndMisdirectWrites) {
  auto device = Make();
  device->SetFaultHook([](const BlockRequest&, std::uint64_t ordinal) {
    if (ordinal == 1) return SimVerdict{SimFault::kLose};
    if (ordinal == 2) return SimVerdict{SimFault::kMisdirect};
    return SimVerdict{};
  });
  ASSERT_TRUE(WriteBlocking(*device, 0, Filled(512, 1)).has_value());
  ASSERT_TRUE(WriteBlocking(*device, 4096, Filled(512, 2)).has_value());
  EXPECT_EQ(At(device->CurrentImage(), 0), std::byte{0});
  EXPECT_EQ(At(device->CurrentImage(), 4096), std::byte{0});
  EXPECT_EQ(At(device->CurrentImage(), 8192), std::byte{2});
}

TEST(SimDevice, ShowsEveryStepToTheHook) {
  auto device = Make();
  std::vector<std::size_t> unstable;
  device->SetStepHook([&unstable](SimDevice& self, const BlockRequest&) {
    unstable.push_back(self.UnstableCount());
  });
  ASSERT_TRUE(WriteBlocking(*device, 0, Filled(512, 1)).has_value());
  ASSERT_TRUE(WriteBlocking(*device, 512, Filled(512, 1)).has_value());
  ASSERT_TRUE(FlushBlocking(*device).has_value());
  EXPECT_EQ(unstable, (std::vector<std::size_t>{1, 2, 0}));
}

TEST(SimImage, CopiesShareNothingThatChanges) {
  SimImage first(1 << 20);
  first.Write(4000, Filled(1000, 3));
  SimImage second = first;
  EXPECT_TRUE(first.SameContents(second));
  second.FlipBit(4500, 0);
  EXPECT_FALSE(first.SameContents(second));
  EXPECT_EQ(At(first, 4500), std::byte{3});
  second.Zero(0, 1 << 20);
  EXPECT_EQ(second.allocated_bytes(), 0U);
  first.Zero(4500, 100);
  EXPECT_EQ(At(first, 4499), std::byte{3});
  EXPECT_EQ(At(first, 4599), std::byte{0});
  EXPECT_EQ(At(first, 4600), std::byte{3});
}

}  // namespace
}  // namespace filer::engine
