// The control channel on an engine of a simulated volume.
#include "fsal/engine-control/control.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "fsal/engine/device/sim_device.h"

namespace filer::control {
namespace {

using namespace std::chrono_literals;

class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    engine::SimOptions options;
    options.size_bytes = 128ULL << 20;
    options.pool_bytes = 32ULL << 20;
    device_ = engine::SimDevice::Create(options).value();
    engine::FormatOptions format;
    format.volume_name = "tank";
    format.random_seed = 7;
    ASSERT_TRUE(engine::Engine::Format(*device_, format).has_value());
    engine_ = engine::Engine::Mount(*device_, SystemClock(), {}).value();
    server_ =
        ControlServer::Listen(path_, {[this] { return is_mounted_ ? engine_.get() : nullptr; },
                                      [] { return std::string("bad disk"); }})
            .value();
  }
  void TearDown() override {
    server_.reset();
    ASSERT_TRUE(engine_->Unmount().has_value());
  }
  Result<Json> Call(const std::string& method, const Json& params = Json::object()) {
    return RpcClient::Connect(path_).value().Call(method, params, 10s);
  }

  const std::string path_ = testing::TempDir() + "control_" + std::to_string(::getpid());
  bool is_mounted_ = true;
  std::unique_ptr<engine::SimDevice> device_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlTest, ListsItsMethodsWithTheirParameters) {
  const Json methods = Call("methods").value()["methods"];
  std::set<std::string> names;
  for (const Json& method : methods) names.insert(method["name"].get<std::string>());
  EXPECT_EQ(names.size(), methods.size());
  EXPECT_TRUE(names.contains("volume.show"));
  for (const Json& method : methods) {
    if (method["name"] != "mkdir") continue;
    EXPECT_EQ(method["params"][0]["name"], "path");
    EXPECT_EQ(method["params"][0]["required"], true);
  }
}

TEST_F(ControlTest, RefusesWhatIsNoCallOfItsMethods) {
  EXPECT_EQ(Call("volume.shrink").error(), Errc::kNotSupported);
  EXPECT_EQ(Call("volume.show", {{"name", "x"}}).error(), Errc::kInvalidArgument);
  EXPECT_EQ(Call("mkdir").error(), Errc::kInvalidArgument);
  EXPECT_EQ(Call("mkdir", {{"path", "/a"}, {"mode", 010000u}}).error(), Errc::kInvalidArgument);
  EXPECT_EQ(Call("mkdir", {{"path", "a"}}).error(), Errc::kInvalidName);
  EXPECT_EQ(Call("mkdir", {{"path", "/a/../b"}}).error(), Errc::kInvalidName);
  EXPECT_EQ(Call("mkdir", {{"path", "/a/b"}}).error(), Errc::kNotFound);
}

TEST_F(ControlTest, SaysWhyThereIsNoVolume) {
  is_mounted_ = false;
  const auto refused = Call("volume.show");
  EXPECT_EQ(refused.error(), Errc::kNotRunning);
  EXPECT_EQ(refused.error().message(), "no volume is mounted: bad disk");
}

TEST_F(ControlTest, MakesFoldersOnce) {
  EXPECT_EQ(Call("mkdir", {{"path", "/a"}, {"mode", 0700u}}).value()["created"], true);
  EXPECT_EQ(Call("mkdir", {{"path", "/a"}}).value()["created"], false);
  EXPECT_EQ(engine_->Lookup(engine_->Root(), "a").value().mode, 0700u);
  EXPECT_EQ(Call("mkdir", {{"path", "/a/b"}}).value()["created"], true);
}

TEST_F(ControlTest, ShowsTheVolume) {
  const std::uint64_t files = Call("volume.show").value()["files"].get<std::uint64_t>();
  ASSERT_TRUE(Call("mkdir", {{"path", "/a"}}).has_value());
  const Json volume = Call("volume.show").value();
  EXPECT_EQ(volume["name"], "tank");
  EXPECT_EQ(volume["uuid"].get<std::string>().size(), 32u);
  EXPECT_EQ(volume["files"], files + 1);
  EXPECT_EQ(volume["health"]["ok"], true);
  const Json& space = volume["space"];
  EXPECT_EQ(space["total_bytes"].get<std::uint64_t>(),
            space["used_bytes"].get<std::uint64_t>() + space["free_bytes"].get<std::uint64_t>());
}

}  // namespace
}  // namespace filer::control
