#include "filer-guest/agent/supervisor.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

namespace filer::agent {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr SupervisorTimes kQuick{milliseconds(400), milliseconds(400), milliseconds(400),
                                 milliseconds(400), milliseconds(1),   milliseconds(1),
                                 milliseconds(1)};

// A machine of words: remembers what was done to it, fails where it is told to.
class FakeControl final : public ServiceControl {
 public:
  Result<void> PrepareDevice(const ServiceConfig&) override { return Step("prepare"); }
  Result<void> StartGanesha(const ServiceConfig&) override {
    auto done = Step("ganesha");
    if (done) Set("ganesha", true);
    return done;
  }
  Result<Json> EngineStatus(const ServiceConfig&) override {
    const std::lock_guard lock(mutex_);
    if (polls_until_status_ > 0) {
      --polls_until_status_;
      return Error(Errc::kNotRunning);
    }
    Json exports = Json::array();
    for (const std::string& path : made_) {
      exports.push_back({{"path", path}, {"ok", is_reloaded_}, {"error", "no such folder"}});
    }
    const bool is_healthy = engine_error_.empty() && unhealthy_answers_ == 0;
    if (unhealthy_answers_ > 0) --unhealthy_answers_;
    return Json{{"healthy", is_healthy}, {"error", engine_error_}, {"exports", exports}};
  }
  Result<void> MakeExportDirectory(const ServiceConfig&, const ExportDirectory& entry) override {
    auto done = Step("mkdir " + entry.path);
    const std::lock_guard lock(mutex_);
    made_.push_back(entry.path);
    return done;
  }
  Result<void> ReloadExports() override {
    const std::lock_guard lock(mutex_);
    steps_.push_back("reload");
    is_reloaded_ = true;
    return Ok();
  }
  bool IsDoorMounted(const ServiceConfig&) override { return is_door_mounted_; }
  Result<void> StartSamba(const ServiceConfig&) override {
    auto done = Step("samba");
    if (done) Set("samba", true);
    return done;
  }
  bool IsListening(std::uint16_t port) override {
    Step(fmt::format("look for {}", port)).assume_value();
    const std::lock_guard lock(mutex_);
    return polls_until_listening_ >= 0 && --polls_until_listening_ < 0;
  }
  std::vector<ServiceState> States() override {
    const std::lock_guard lock(mutex_);
    return states_;
  }
  Result<void> StopSamba() override { return Step("stop samba"); }
  Result<void> StopGanesha() override { return Step("stop ganesha"); }
  void CleanUp(const ServiceConfig&) override { (void)Step("clean up").has_value(); }

  Result<void> Step(const std::string& name) {
    const std::lock_guard lock(mutex_);
    steps_.push_back(name);
    if (name == failing_step_) return Error(Errc::kSystem, name + " failed");
    return Ok();
  }
  void Set(const std::string& name, bool is_ok) {
    const std::lock_guard lock(mutex_);
    for (ServiceState& state : states_) {
      if (state.name != name) continue;
      state.is_ok = is_ok;
      state.last_lines = is_ok ? "" : "(signal 11) last words";
      return;
    }
    states_.push_back({name, 42, is_ok, ""});
  }
  void SetEngineError(const std::string& error) {
    const std::lock_guard lock(mutex_);
    engine_error_ = error;
  }
  std::vector<std::string> Steps() {
    const std::lock_guard lock(mutex_);
    return steps_;
  }

  std::mutex mutex_;
  std::vector<std::string> steps_, made_;
  std::vector<ServiceState> states_;
  std::string failing_step_, engine_error_;
  int unhealthy_answers_ = 0;  // so many of the next ones
  int polls_until_status_ = 3, polls_until_listening_ = 0;
  bool is_reloaded_ = false;
  std::atomic<bool> is_door_mounted_{true};
};

Json Params() {
  return Json{{"device", "file:/v.img"},
              {"ganesha_conf", "x"},
              {"smb_conf", "y"},
              {"smb_user", "u"},
              {"smb_password", "p"},
              {"run_dir", "/run/x"},
              {"export_directories", Json::array({Json{{"path", "/share"}, {"mode", 0755u}}})}};
}

std::string WaitForState(Supervisor& supervisor, const std::string& wanted) {
  std::string state;
  for (int round = 0; round < 5000; ++round) {
    state = supervisor.Health()["state"].get<std::string>();
    if (state == wanted) break;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return state;
}

void WaitUntilStopped(Supervisor& supervisor) {
  for (int round = 0; round < 5000 && !supervisor.IsStopped(); ++round) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_TRUE(supervisor.IsStopped());
}

TEST(Supervisor, StartsInOrderAndStopsInReverse) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  EXPECT_EQ(supervisor.Health()["state"], "idle");
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  EXPECT_EQ(WaitForState(supervisor, "ready"), "ready");
  EXPECT_EQ(supervisor.Health()["engine"]["healthy"], true);
  supervisor.RequestShutdown();
  WaitUntilStopped(supervisor);
  EXPECT_THAT(control.Steps(), ElementsAre("prepare", "ganesha", "mkdir /share", "reload", "samba",
                                           "stop samba", "stop ganesha", "clean up"));
  EXPECT_EQ(supervisor.StopNote(), "");
}

TEST(Supervisor, EveryFailingStepSaysSoAndIsStillTakenDown) {
  for (const char* step : {"prepare", "ganesha", "mkdir /share", "samba"}) {
    FakeControl control;
    control.failing_step_ = step;
    Supervisor supervisor(control, kQuick);
    ASSERT_TRUE(supervisor.Configure(Params()).has_value());
    EXPECT_EQ(WaitForState(supervisor, "failed"), "failed") << step;
    EXPECT_THAT(supervisor.Health()["error"].get<std::string>(), HasSubstr(step));
    supervisor.RequestShutdown();
    WaitUntilStopped(supervisor);
    EXPECT_EQ(control.Steps().back(), "clean up");
  }
}

TEST(Supervisor, EngineErrorEndsTheWaitAtOnce) {
  FakeControl control;
  control.engine_error_ = "volume is from a newer version";
  SupervisorTimes times = kQuick;
  times.engine_deadline = std::chrono::minutes(10);
  Supervisor supervisor(control, times);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  EXPECT_EQ(WaitForState(supervisor, "failed"), "failed");
  EXPECT_EQ(supervisor.Health()["error"], "volume is from a newer version");
}

TEST(Supervisor, DoorThatNeverAppearsIsNamed) {
  FakeControl control;
  control.is_door_mounted_ = false;
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  EXPECT_EQ(WaitForState(supervisor, "failed"), "failed");
  EXPECT_THAT(supervisor.Health()["error"].get<std::string>(), HasSubstr("/run/x/door"));
}

TEST(Supervisor, ReadyMeansThatEveryPortIsListenedOn) {
  FakeControl control;
  control.polls_until_listening_ = 3;
  Supervisor supervisor(control, kQuick);
  Json params = Params();
  params["ports"] = {445u};
  ASSERT_TRUE(supervisor.Configure(params).has_value());
  ASSERT_EQ(WaitForState(supervisor, "ready"), "ready");
  const auto steps = control.Steps();
  EXPECT_EQ(std::count(steps.begin(), steps.end(), "look for 445"), 4);
  EXPECT_LT(std::find(steps.begin(), steps.end(), "samba"),
            std::find(steps.begin(), steps.end(), "look for 445"));
}

TEST(Supervisor, APortThatNobodyListensOnIsNamed) {
  FakeControl control;
  control.polls_until_listening_ = -1;
  Supervisor supervisor(control, kQuick);
  Json params = Params();
  params["ports"] = {445u};
  ASSERT_TRUE(supervisor.Configure(params).has_value());
  ASSERT_EQ(WaitForState(supervisor, "failed"), "failed");
  EXPECT_THAT(supervisor.Health()["error"].get<std::string>(), HasSubstr("port 445"));
}

TEST(Supervisor, DeadServiceMakesReadyFailedWithItsLastWords) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  ASSERT_EQ(WaitForState(supervisor, "ready"), "ready");
  control.Set("ganesha", false);
  EXPECT_EQ(WaitForState(supervisor, "failed"), "failed");
  const Json health = supervisor.Health();
  EXPECT_THAT(health["error"].get<std::string>(), HasSubstr("last words"));
  EXPECT_EQ(health["services"][0]["ok"], false);
}

TEST(Supervisor, EngineThatStaysUnhealthyIsAFailureUntilItIsWellAgain) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  ASSERT_EQ(WaitForState(supervisor, "ready"), "ready");
  control.SetEngineError("log: the disk is full");
  EXPECT_EQ(WaitForState(supervisor, "failed"), "failed");
  EXPECT_EQ(supervisor.Health()["error"], "log: the disk is full");
  control.SetEngineError("");
  EXPECT_EQ(WaitForState(supervisor, "ready"), "ready");
  EXPECT_EQ(supervisor.Health()["error"], "");
  control.Set("samba", false);
  EXPECT_EQ(WaitForState(supervisor, "failed"), "failed") << "services are still watched";
}

TEST(Supervisor, AMomentWithoutHealthIsNoFailure) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  ASSERT_EQ(WaitForState(supervisor, "ready"), "ready");
  const auto unhealthy_answers = [&](int set) {
    const std::lock_guard lock(control.mutex_);
    if (set > 0) control.unhealthy_answers_ = set;
    return control.unhealthy_answers_;
  };
  unhealthy_answers(2);
  while (unhealthy_answers(0) > 0) std::this_thread::sleep_for(milliseconds(1));
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_EQ(supervisor.Health()["state"], "ready");
}

TEST(Supervisor, AStartThatFailedStaysFailedThoughTheEngineIsWell) {
  FakeControl control;
  control.failing_step_ = "samba";
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  ASSERT_EQ(WaitForState(supervisor, "failed"), "failed");
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_EQ(supervisor.Health()["state"], "failed");
}

TEST(Supervisor, ShutdownWhileStartingDoesNotWaitForTheDeadline) {
  FakeControl control;
  control.polls_until_status_ = 1 << 30;
  SupervisorTimes times = kQuick;
  times.engine_deadline = std::chrono::minutes(10);
  Supervisor supervisor(control, times);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  EXPECT_EQ(WaitForState(supervisor, "starting"), "starting");
  supervisor.RequestShutdown();
  WaitUntilStopped(supervisor);
  EXPECT_EQ(control.Steps().back(), "clean up");
  EXPECT_EQ(supervisor.Health()["state"], "stopping");
}

TEST(Supervisor, RefusesASecondConfigureAndOneAfterShutdown) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  ASSERT_TRUE(supervisor.Configure(Params()).has_value());
  EXPECT_TRUE(supervisor.Configure(Params()).error() == Errc::kBusy);
  supervisor.RequestShutdown();
  EXPECT_TRUE(supervisor.Configure(Params()).error() == Errc::kShuttingDown);
}

TEST(Supervisor, IdleShutdownIsDoneAtOnce) {
  FakeControl control;
  Supervisor supervisor(control, kQuick);
  supervisor.RequestShutdown();
  EXPECT_TRUE(supervisor.IsStopped());
  EXPECT_TRUE(control.Steps().empty());
}

TEST(ParseServiceConfig, RefusesWhatIsMissingOrMalformed) {
  ASSERT_TRUE(ParseServiceConfig(Params()).has_value());
  for (const char* key : {"device", "ganesha_conf", "run_dir", "smb_user", "smb_password"}) {
    Json params = Params();
    params.erase(key);
    ASSERT_FALSE(ParseServiceConfig(params).has_value()) << key;
    EXPECT_THAT(ParseServiceConfig(params).error().message(), HasSubstr(key));
    params[key] = 7;
    EXPECT_FALSE(ParseServiceConfig(params).has_value()) << key;
  }
  const std::pair<const char*, Json> bad[] = {
      {"run_dir", "relative"},
      {"run_dir", "/a/../b"},
      {"run_dir", "/a\nb"},
      {"memory_mb", -1},
      {"memory_mb", 1},
      {"memory_mb", "512"},
      {"export_directories", "x"},
      {"export_directories", Json::array({Json{{"path", "x"}}})},
      {"export_directories", Json::array({Json{{"path", "/x"}, {"mode", 010000u}}})},
      {"export_directories", Json::array({1})},
      {"ports", 445},
      {"ports", Json::array({0u})},
      {"ports", Json::array({65536u})},
      {"ports", Json::array({"x"})},
  };
  for (const auto& [key, value] : bad) {
    Json params = Params();
    params[key] = value;
    EXPECT_FALSE(ParseServiceConfig(params).has_value()) << key << " " << value;
  }
}

TEST(ParseServiceConfig, SambaIsOptional) {
  Json params = Params();
  for (const char* key : {"smb_conf", "smb_user", "smb_password"}) params.erase(key);
  const auto config = ParseServiceConfig(params);
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config.value().status_socket, "/run/x/engine.sock");
  EXPECT_EQ(config.value().posix_door, "/run/x/door");
}

}  // namespace
}  // namespace filer::agent
