#include "fsal/ganesha/node_key.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "fsal/engine/device/sim_device.h"

namespace filer::ganesha {
namespace {

class NodeKeyTest : public testing::Test {
 protected:
  void SetUp() override {
    engine::SimOptions options;
    options.size_bytes = 256ULL << 20;
    auto device = engine::SimDevice::Create(options);
    ASSERT_TRUE(device.has_value());
    device_ = std::move(device).assume_value();
    ASSERT_TRUE(engine::Engine::Format(*device_, {.volume_name = "t"}).has_value());
    auto engine = engine::Engine::Mount(*device_, SystemClock(), {});
    ASSERT_TRUE(engine.has_value());
    engine_ = std::move(engine).assume_value();
  }
  void TearDown() override { ASSERT_TRUE(engine_->Unmount().has_value()); }

  std::unique_ptr<engine::SimDevice> device_;
  std::unique_ptr<engine::Engine> engine_;
};

TEST_F(NodeKeyTest, SurvivesTheWire) {
  const HostHandle node{ToKey(engine_->Root()), 1};
  const auto bytes = ToWire(*engine_, node, 7);
  const auto back = FromWire(*engine_, bytes, 7);
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(back.assume_value().key == node.key);
  EXPECT_EQ(back.assume_value().generation, 1U);
  EXPECT_TRUE(ToNodeId(node.key) == engine_->Root());
}

TEST_F(NodeKeyTest, RefusesAnotherExportsHandle) {
  const auto bytes = ToWire(*engine_, {ToKey(engine_->Root()), 1}, 7);
  EXPECT_TRUE(FromWire(*engine_, bytes, 8).assume_error() == Errc::kStaleHandle);
  EXPECT_TRUE(FromHost(*engine_, bytes).has_value()) << "MDCACHE's own copies name no export";
}

TEST_F(NodeKeyTest, RefusesForgedAndMisshapenHandles) {
  const auto bytes = ToWire(*engine_, {ToKey(engine_->Root()), 1}, 7);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto forged = bytes;
    forged[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    EXPECT_FALSE(FromWire(*engine_, forged, 7).has_value()) << "bit " << bit;
    EXPECT_FALSE(FromHost(*engine_, forged).has_value()) << "bit " << bit;
  }
  const std::span<const std::uint8_t> whole(bytes);
  EXPECT_TRUE(FromWire(*engine_, whole.first(47), 7).assume_error() == Errc::kBadHandle);
  EXPECT_TRUE(FromWire(*engine_, {}, 7).assume_error() == Errc::kBadHandle);
}

}  // namespace
}  // namespace filer::ganesha
