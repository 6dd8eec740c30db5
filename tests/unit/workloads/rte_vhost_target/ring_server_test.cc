#include "workloads/rte_vhost_target/ring_server.h"

#include <gtest/gtest.h>

#include <cstring>

#include "host-bridge/virtio/block.h"

namespace filer::bench {
namespace {

using virtio::Descriptor;

constexpr std::uint32_t kSize = 8;
constexpr std::uint64_t kVolumeBytes = 64 << 10;

// A driver's memory, whose guest addresses are offsets into it.
class RingServerTest : public testing::Test {
 protected:
  void SetUp() override {
    backend_ = std::move(bridge::OpenMemoryBackend(kVolumeBytes)).assume_value();
    RingPlace place;
    place.descriptors = At<Descriptor>(0);
    place.avail = At<virtio::AvailRing>(0x1000);
    place.used = At<virtio::UsedRing>(0x2000);
    place.size = kSize;
    const auto translate = [this](std::uint64_t address, std::uint64_t length) -> std::byte* {
      if (address > memory_.size() || length > memory_.size() - address) return nullptr;
      return memory_.data() + address;
    };
    server_ = std::move(RingServer::Create(place, translate, *backend_, -1)).assume_value();
  }
  template <typename T>
  T* At(std::size_t offset) {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  // One request of one sector behind an indirect table, at head 0.
  void Offer(std::uint32_t type, std::uint64_t sector) {
    auto* header = At<virtio::RequestHeader>(0x3000);
    header->type = type;
    header->reserved = 0;
    header->sector = sector;
    *At<std::uint8_t>(0x3100) = 0xff;
    const std::uint16_t write = type == virtio::kRequestIn ? virtio::kDescriptorWrite : 0;
    auto* table = At<Descriptor>(0x3200);
    table[0] = {0x3000, 16, virtio::kDescriptorNext, 1};
    table[1] = {0x4000, 512, static_cast<std::uint16_t>(virtio::kDescriptorNext | write), 2};
    table[2] = {0x3100, 1, virtio::kDescriptorWrite, 0};
    *At<Descriptor>(0) = {0x3200, 48, virtio::kDescriptorIndirect, 0};
    auto* avail = At<virtio::AvailRing>(0x1000);
    avail->ring[avail->index % kSize] = 0;
    ++avail->index;
  }
  std::uint8_t Status() { return *At<std::uint8_t>(0x3100); }

  std::vector<std::byte> memory_ = std::vector<std::byte>(64 << 10);
  std::unique_ptr<bridge::Backend> backend_;
  std::unique_ptr<RingServer> server_;
};

TEST_F(RingServerTest, WritesAndReadsBack) {
  std::memset(At<char>(0x4000), 7, 512);
  Offer(virtio::kRequestOut, 3);
  ASSERT_TRUE(server_->Round().has_value());
  EXPECT_EQ(Status(), virtio::kStatusOk);
  std::memset(At<char>(0x4000), 0, 512);
  Offer(virtio::kRequestIn, 3);
  ASSERT_TRUE(server_->Round().has_value());
  EXPECT_EQ(*At<char>(0x4000), 7);
  EXPECT_EQ(*At<char>(0x41ff), 7);
  const auto* used = At<virtio::UsedRing>(0x2000);
  EXPECT_EQ(used->index, 2);
  EXPECT_EQ(used->ring[0].length, 1U);
  EXPECT_EQ(used->ring[1].length, 513U);
  EXPECT_EQ(server_->in_flight(), 0U);
  EXPECT_FALSE(server_->Round().assume_value());  // nothing more to do
}

TEST_F(RingServerTest, AnswersAnErrorBeyondTheEnd) {
  Offer(virtio::kRequestIn, kVolumeBytes / 512);
  ASSERT_TRUE(server_->Round().has_value());
  EXPECT_EQ(Status(), virtio::kStatusIoError);
  Offer(99, 0);
  ASSERT_TRUE(server_->Round().has_value());
  EXPECT_EQ(Status(), virtio::kStatusUnsupported);
}

TEST_F(RingServerTest, StopsAtAChainItDoesNotUnderstand) {
  Offer(virtio::kRequestIn, 0);
  At<Descriptor>(0x3200)[1].address = memory_.size();
  EXPECT_TRUE(server_->Round().has_error());
  EXPECT_EQ(Status(), 0xff);
  EXPECT_FALSE(server_->Round().assume_value());  // and takes nothing more
}

TEST_F(RingServerTest, AsksForNoKicks) {
  EXPECT_EQ(At<virtio::UsedRing>(0x2000)->flags, virtio::kUsedNoNotify);
}

}  // namespace
}  // namespace filer::bench
