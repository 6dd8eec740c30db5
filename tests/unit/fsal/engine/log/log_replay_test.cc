#include "fsal/engine/log/log_replay.h"

#include "tests/unit/fsal/engine/log/log_test.h"

namespace filer::engine {
namespace {

// Ten groups of one block, each synced, "0" to "9".
std::unique_ptr<SimDevice> TenGroups() {
  auto device = SimDevice::Create({}).value();
  auto log = LogWriter::Create(*device, kRing, Head()).value();
  for (char digit = '0'; digit <= '9'; ++digit) {
    EXPECT_TRUE(log->Sync(*log->TryAppend(std::string(1, digit))).has_value());
  }
  return device;
}

std::unique_ptr<SimDevice> Changed(const SimDevice& device,
                                   const std::function<void(SimImage&)>& change) {
  auto image = device.CurrentImage();
  change(image);
  return SimDevice::Create({}, std::move(image)).value();
}

constexpr std::uint64_t Offset(std::uint64_t group) { return (kRing.first_block + group) * 4096; }

TEST(ReplayLog, EndsAtTheFirstGroupThatIsMissing) {
  const auto device = TenGroups();
  ReplayEnd end;
  EXPECT_EQ(ReplayAll(*device, Head(), &end).value(), "0123456789");
  EXPECT_EQ(end.group_count, 10U);
  EXPECT_EQ(end.next.position, 10U);
  const auto torn = Changed(*device, [](SimImage& image) { image.FlipBit(Offset(9) + 700, 0); });
  EXPECT_EQ(ReplayAll(*torn, Head()).value(), "012345678");
}

TEST(ReplayLog, AnEmptyLogIsFine) {
  auto device = SimDevice::Create({}).value();
  EXPECT_EQ(ReplayAll(*device, Head()).value(), "");
}

TEST(ReplayLog, TellsDamageFromATornEnd) {
  const auto device = TenGroups();
  for (std::uint64_t group = 0; group < 9; ++group) {
    const auto damaged =
        Changed(*device, [&](SimImage& image) { image.FlipBit(Offset(group) + 200, 3); });
    EXPECT_TRUE(ReplayAll(*damaged, Head()).error() == Errc::kCorrupt) << group;
    const auto lost = Changed(*device, [&](SimImage& image) { image.Zero(Offset(group), 4096); });
    EXPECT_TRUE(ReplayAll(*lost, Head()).error() == Errc::kCorrupt) << group;
  }
}

// Two groups in flight, only the second reached the disk: nothing proves that the first had been
// durable.
TEST(ReplayLog, AGapAmongGroupsInFlightIsTheEnd) {
  auto device = SimDevice::Create({}).value();
  std::vector<std::byte> group(4096);
  auto place = Head();
  const auto first = SealGroup(group, place, 1, 0, 8);
  place.position = 1;
  place.first_lsn = 2;
  place.prev_crc32c = first.crc32c;
  SealGroup(group, place, 2, 0, 8);
  ASSERT_TRUE(WriteBlocking(*device, Offset(1), group).has_value());
  EXPECT_EQ(ReplayAll(*device, Head()).value(), "");
}

TEST(ReplayLog, StaleGroupsAreNotAccepted) {
  const auto device = TenGroups();
  EXPECT_EQ(ReplayAll(*device, Head(6)).value(), "");  // another mount's
  auto other = Head();
  other.uuid[0] = 9;
  EXPECT_EQ(ReplayAll(*device, other).value(), "");  // another volume's
  // A new epoch has overwritten the first three; the fourth is the old epoch's.
  auto log = LogWriter::Create(*device, kRing, Head(6)).value();
  for (const char* text : {"a", "b", "c"}) {
    ASSERT_TRUE(log->Sync(*log->TryAppend(text)).has_value());
  }
  EXPECT_EQ(ReplayAll(*device, Head(6)).value(), "abc");
}

TEST(ReplayLog, StartsInTheMiddle) {
  const auto device = TenGroups();
  std::vector<std::byte> block(4096);
  ASSERT_TRUE(ReadBlocking(*device, Offset(3), block).has_value());
  auto head = Head(5, 5);
  head.position = 4;
  head.prev_crc32c = LoadStruct<GroupHeader>(block).crc32c;
  EXPECT_EQ(ReplayAll(*device, head).value(), "456789");
  head.prev_crc32c =
      1;  // a wrong link: the chain does not start here, and later groups prove that it should
  EXPECT_FALSE(ReplayAll(*device, head).has_value());
}

TEST(ReplayLog, AReadErrorIsNotTheEnd) {
  const auto device = TenGroups();
  device->FailRequest(1);
  EXPECT_TRUE(ReplayAll(*device, Head()).error() == Errc::kIo);
}

}  // namespace
}  // namespace filer::engine
