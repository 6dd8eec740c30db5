// The control channel on an engine of a simulated volume.
#include "fsal/engine-control/control.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "fsal/engine-control/volume_methods.h"
#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/format/label.h"

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
  EXPECT_EQ(volume["format_version"], engine::kFormatVersion);
  EXPECT_EQ(volume["size_bytes"], 128u << 20);
  const Json& space = volume["space"];
  EXPECT_EQ(space["total_bytes"].get<std::uint64_t>(),
            space["used_bytes"].get<std::uint64_t>() + space["free_bytes"].get<std::uint64_t>());
}

// Every figure moves when what it counts happens.
TEST_F(ControlTest, CountsWhatTheVolumeDoes) {
  const Json before = Call("volume.show").value();
  EXPECT_EQ(before["mount"]["recovered_groups"], 0);
  for (int folder = 0; folder < 20; ++folder) {
    ASSERT_TRUE(Call("mkdir", {{"path", "/f" + std::to_string(folder)}}).has_value());
  }
  engine::Caller root;
  root.is_trusted = true;
  const auto file = engine_->Create(root, engine_->Root(), "data", {}).value().node.id;
  std::string bytes(8192, 'x');
  const iovec data{bytes.data(), bytes.size()};
  ASSERT_TRUE(engine_->Write(file, 0, {&data, 1}, engine::Stability::kFileSync).has_value());
  for (int round = 0; round < 4; ++round) ASSERT_TRUE(engine_->Read(file, 0, 8192).has_value());
  ASSERT_TRUE(engine_->Lookup(engine_->Root(), "f1").has_value());
  const Json after = Call("volume.show").value();
  EXPECT_GE(after["commit_latency_us"]["count"].get<int>(),
            before["commit_latency_us"]["count"].get<int>() + 21);
  EXPECT_GT(after["commit_latency_us"]["p99"].get<double>(), 0);
  EXPECT_GE(after["commit_latency_us"]["max"].get<double>(),
            after["commit_latency_us"]["p50"].get<double>());
  EXPECT_GT(after["log"]["used_bytes"].get<int>(), before["log"]["used_bytes"].get<int>());
  EXPECT_GT(after["log"]["bytes"].get<int>(), after["log"]["used_bytes"].get<int>());
  EXPECT_GE(after["log"]["transactions_per_group"].get<double>(), 1);
  EXPECT_GT(after["data_cache"]["bytes"].get<int>(), 0);
  EXPECT_GT(after["data_cache"]["hit_rate"].get<double>(), 0);
  EXPECT_GT(after["node_cache"]["hits"].get<int>(), before["node_cache"]["hits"].get<int>());
  EXPECT_GT(after["node_cache"]["hit_rate"].get<double>(), 0.5);
  EXPECT_GT(after["space"]["used_bytes"].get<int>(), before["space"]["used_bytes"].get<int>());
}

TEST_F(ControlTest, TellsOfTheRecoveryOfTheLastMount) {
  for (int folder = 0; folder < 5; ++folder) {
    ASSERT_TRUE(Call("mkdir", {{"path", "/f" + std::to_string(folder)}}).has_value());
  }
  server_.reset();
  engine_.reset();  // as if killed
  engine_ = engine::Engine::Mount(*device_, SystemClock(), {}).value();
  const Json volume = DescribeVolume(*engine_);
  EXPECT_GE(volume["mount"]["recovered_groups"].get<int>(), 1);
  EXPECT_GT(volume["mount"]["ms"].get<double>(), 0);
  EXPECT_GE(volume["mount"]["count"].get<int>(), 2);
  // The checkpoint with which a recovery ends.
  EXPECT_GE(volume["checkpoints"]["count"].get<int>(), 1);
  EXPECT_GT(volume["checkpoints"]["last_ms"].get<double>(), 0);
  EXPECT_GE(volume["checkpoints"]["max_ms"].get<double>(),
            volume["checkpoints"]["last_ms"].get<double>());
}

TEST_F(ControlTest, LeavesOutTheRateOfWhatNobodyAskedFor) {
  EXPECT_TRUE(Call("volume.show").value()["data_cache"]["hit_rate"].is_null());
}

TEST_F(ControlTest, SnapshotsAndFilesetsGoByTheirNames) {
  const auto made = Call("snapshot.create", {{"name", "monday"}}).value();
  EXPECT_EQ(made["fileset"], "main");
  EXPECT_TRUE(Call("snapshot.create", {{"name", "monday"}}).error() == Errc::kExists);
  EXPECT_TRUE(Call("snapshot.create", {{"name", "a/b"}}).error() == Errc::kInvalidName);
  EXPECT_TRUE(Call("snapshot.create").error() == Errc::kInvalidArgument);
  EXPECT_TRUE(Call("snapshot.create", {{"name", "x"}, {"fileset", "none"}}).error() ==
              Errc::kNotFound);
  ASSERT_TRUE(Call("snapshot.create", {{"name", "tuesday"}}).has_value());
  EXPECT_EQ(Call("snapshot.list").value()["snapshots"].size(), 2U);
  EXPECT_EQ(Call("snapshot.hold", {{"name", "monday"}}).value()["holds"], 1);
  EXPECT_TRUE(Call("snapshot.delete", {{"name", "monday"}}).error() == Errc::kBusy);
  EXPECT_EQ(Call("snapshot.release", {{"name", "monday"}}).value()["holds"], 0);
  // Not past a newer one unless that is meant.
  EXPECT_TRUE(Call("snapshot.rollback", {{"name", "monday"}}).error() == Errc::kBusy);
  const auto back =
      Call("snapshot.rollback", {{"name", "monday"}, {"must_delete_newer", true}}).value();
  EXPECT_EQ(back["deleted"], Json::array({"tuesday"}));
  const auto clone = Call("snapshot.clone", {{"name", "monday"}, {"new_name", "copy"}}).value();
  EXPECT_EQ(clone["origin_fileset"], "main");
  ASSERT_TRUE(Call("fileset.create", {{"name", "home"}}).has_value());
  ASSERT_TRUE(Call("fileset.rename", {{"name", "home"}, {"new_name", "homes"}}).has_value());
  EXPECT_EQ(Call("fileset.list").value()["filesets"].size(), 3U);
  EXPECT_TRUE(Call("fileset.delete", {{"name", "home"}}).error() == Errc::kNotFound);
  ASSERT_TRUE(Call("fileset.delete", {{"name", "homes"}}).has_value());
  EXPECT_TRUE(Call("snapshot.delete", {{"name", "monday"}}).error() == Errc::kBusy) << "a clone";
  ASSERT_TRUE(Call("fileset.delete", {{"name", "copy"}}).has_value());
  ASSERT_TRUE(Call("snapshot.rename", {{"name", "monday"}, {"new_name", "m"}}).has_value());
  ASSERT_TRUE(Call("snapshot.delete", {{"name", "m"}}).has_value());
  EXPECT_EQ(Call("snapshot.list").value()["snapshots"].size(), 0U);
}

TEST_F(ControlTest, AScrubRunsToItsEnd) {
  EXPECT_EQ(Call("scrub.status").value()["state"], "never");
  ASSERT_TRUE(Call("scrub.start", {{"from_start", true}}).has_value());
  Json status;
  for (int attempt = 0; attempt < 200; ++attempt) {
    status = Call("scrub.status").value();
    if (status["state"] == "finished") break;
    usleep(50'000);
  }
  EXPECT_EQ(status["state"], "finished");
  EXPECT_EQ(status["findings"].size(), 0U);
  EXPECT_TRUE(Call("scrub.stop").error() == Errc::kNotRunning);
}

TEST_F(ControlTest, QuotasAreSetListedAndTakenAway) {
  const Json user = {{"kind", "user"}, {"id", 1000}};
  EXPECT_EQ(Call("quota.show", user).value()["bytes_hard"], 0);
  Json limits = user;
  limits["bytes_hard"] = 10 << 20;
  limits["inodes_soft"] = 5;
  EXPECT_EQ(Call("quota.set", limits).value()["bytes_hard"], 10 << 20);
  Json more = user;
  more["bytes_soft"] = 20 << 20;
  EXPECT_TRUE(Call("quota.set", more).error() == Errc::kInvalidArgument) << "above the hard one";
  more["bytes_soft"] = 5 << 20;
  const auto set = Call("quota.set", more).value();
  EXPECT_EQ(set["bytes_hard"], 10 << 20) << "what is not given stays";
  EXPECT_EQ(set["inodes_soft"], 5);
  engine::Caller caller;
  caller.uid = caller.gid = 1000;
  const auto file = engine_->Create(caller, engine_->Root(), "data", {}).value().node.id;
  EXPECT_EQ(Call("quota.show", user).value()["used_inodes"], 1);
  std::string bytes(1 << 20, 'x');
  const iovec data{bytes.data(), bytes.size()};
  for (std::uint64_t at = 0; at < 10; ++at) {
    ASSERT_TRUE(
        engine_->Write(file, at << 20, {&data, 1}, engine::Stability::kUnstable).has_value());
  }
  EXPECT_TRUE(engine_->Write(file, 10 << 20, {&data, 1}, engine::Stability::kUnstable).error() ==
              Errc::kQuotaExceeded);
  EXPECT_GT(Call("quota.show", user).value()["bytes_deadline_ns"].get<std::int64_t>(), 0);
  EXPECT_EQ(Call("quota.list", {{"kind", "user"}}).value()["quotas"].size(), 2U);
  EXPECT_TRUE(Call("quota.list", {{"kind", "team"}}).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(Call("quota.list", {{"fileset", "none"}}).error() == Errc::kNotFound);
  EXPECT_EQ(Call("quota.grace", {{"kind", "user"}, {"bytes_seconds", 60}}).value()["bytes_seconds"],
            60);
  EXPECT_EQ(Call("quota.grace", {{"kind", "user"}}).value()["bytes_seconds"], 60);
}

}  // namespace
}  // namespace filer::control
