#include "host-bridge/initiator/pci_layout.h"

#include <gtest/gtest.h>

#include <cstring>

namespace filer::bridge {
namespace {

// A configuration space as QEMU's vhost-user-blk-pci has it.
class PciLayoutTest : public testing::Test {
 protected:
  void SetUp() override {
    config_.fill(std::byte{0});
    Put16(0, kVirtioVendor);
    Put16(2, kBlockDeviceModern);
    Put16(6, 0x10);
    config_[0x34] = std::byte{0x40};
    PutCapability(0x40, 0x50, 1, 4, 0x0000, 0x1000);
    PutCapability(0x50, 0x60, 3, 4, 0x1000, 0x1000);
    PutCapability(0x60, 0x74, 2, 4, 0x3000, 0x1000);
    Put32(0x70, 4);
    PutCapability(0x74, 0, 4, 4, 0x2000, 0x1000);
    bars_ = {0, 0x1000, 0, 0, 0x4000, 0};
  }

  void Put16(std::size_t at, std::uint16_t value) { std::memcpy(&config_[at], &value, 2); }
  void Put32(std::size_t at, std::uint32_t value) { std::memcpy(&config_[at], &value, 4); }
  void PutCapability(std::size_t at, std::uint8_t next, std::uint8_t type, std::uint8_t bar,
                     std::uint32_t offset, std::uint32_t length) {
    const std::uint8_t head[] = {0x09, next, 16, type, bar, 0, 0, 0};
    std::memcpy(&config_[at], head, sizeof head);
    Put32(at + 8, offset);
    Put32(at + 12, length);
  }
  Result<PciLayout> Read() { return ReadPciLayout(config_, bars_); }

  std::array<std::byte, kPciConfigBytes> config_;
  std::array<std::uint64_t, kPciBarCount> bars_{};
};

TEST_F(PciLayoutTest, FindsTheWindows) {
  auto layout = Read();
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout.value().common.bar, 4);
  EXPECT_EQ(layout.value().common.offset_bytes, 0U);
  EXPECT_EQ(layout.value().notify.offset_bytes, 0x3000U);
  EXPECT_EQ(layout.value().notify_multiplier, 4U);
  EXPECT_EQ(layout.value().device.offset_bytes, 0x2000U);
}

TEST_F(PciLayoutTest, RefusesOtherDevices) {
  Put16(2, 0x1041);
  EXPECT_TRUE(Read().error() == Errc::kNotFound);
  Put16(2, kBlockDeviceModern);
  Put16(0, 0x8086);
  EXPECT_TRUE(Read().error() == Errc::kNotFound);
}

TEST_F(PciLayoutTest, RefusesLegacyOnly) {
  Put16(6, 0);
  EXPECT_TRUE(Read().error() == Errc::kNotSupported);
}

TEST_F(PciLayoutTest, RefusesWindowsOutsideTheirBar) {
  PutCapability(0x40, 0x50, 1, 4, 0x3fe0, 0x1000);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
  PutCapability(0x40, 0x50, 1, 4, 0xfffffffc, 0xffffffff);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
  PutCapability(0x40, 0x50, 1, 0, 0, 0x1000);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
  PutCapability(0x40, 0x50, 1, 200, 0, 0x1000);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
  PutCapability(0x40, 0x50, 1, 4, 0, 8);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
  PutCapability(0x40, 0x50, 1, 4, 2, 0x1000);
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
}

TEST_F(PciLayoutTest, EndsOnALoopAndAtTheEdge) {
  config_[0x75] = std::byte{0x40};  // back to the first
  EXPECT_TRUE(Read().has_value());
  config_[0x75] = std::byte{0xfc};
  config_[0xfc] = std::byte{0x09};
  EXPECT_TRUE(Read().error() == Errc::kProtocol);
}

}  // namespace
}  // namespace filer::bridge
