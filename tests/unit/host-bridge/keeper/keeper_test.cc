#include "host-bridge/keeper/keeper.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "base/process.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;

// A keeper at work on a thread. The program is a shell, which writes its pid to the file that the
// fake `status` answers from.
class KeeperTest : public testing::Test {
 protected:
  KeeperTest() {
    std::string name = "/tmp/filer-keeper-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    RpcMethods methods;
    methods["status"] = [this](const Json&) -> Result<Json> {
      const std::string text = FILER_TRY(ReadWholeFile(PidFile()));
      return Json{{"pid", std::atoi(text.c_str())}};
    };
    ready_ = RpcServer::Listen(folder_ + "/ready", std::move(methods)).value();
  }
  ~KeeperTest() override {
    Stop();
    ready_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string PidFile() const { return folder_ + "/pid"; }
  std::string Serve() const { return "echo $$ >" + PidFile() + "; exec sleep 100"; }

  void Keep(const std::string& script, std::chrono::milliseconds stable = 0ms) {
    KeeperOptions options;
    options.command = {"/bin/bash", "-c", script};
    options.ready_socket = folder_ + "/ready";
    options.stable = stable;
    options.pause_max = 100ms;
    options.ready_deadline = 2s;
    keeper_ = Keeper::Create(options).value();
    thread_ = std::thread([this] { exit_status_ = keeper_->Run(stop_.get()); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(stop_.get(), &one, sizeof(one)), ssize_t{sizeof(one)});
    thread_.join();
  }
  bool WaitFor(const std::function<bool(const Json&)>& is_true) const {
    for (int i = 0; i < 2000; ++i) {
      if (is_true(keeper_->Status())) return true;
      std::this_thread::sleep_for(5ms);
    }
    ADD_FAILURE() << keeper_->Status().dump();
    return false;
  }
  pid_t Pid() const {
    pid_t pid = 0;
    WaitFor([&](const Json& status) {
      pid = status["pid"].get<pid_t>();
      return status["state"] == "running" && pid != 0;
    });
    return pid;
  }

  std::string folder_;
  UniqueFd stop_;
  std::unique_ptr<RpcServer> ready_;
  std::unique_ptr<Keeper> keeper_;
  std::thread thread_;
  int exit_status_ = -1;
};

TEST(PauseAfter, GrowsFromTheSecondEarlyEndOn) {
  EXPECT_EQ(PauseAfter(0, 5s), 0ms);
  EXPECT_EQ(PauseAfter(1, 5s), 0ms);
  EXPECT_EQ(PauseAfter(2, 5s), 10ms);
  EXPECT_EQ(PauseAfter(3, 5s), 40ms);
  EXPECT_EQ(PauseAfter(6, 5s), 2560ms);
  EXPECT_EQ(PauseAfter(7, 5s), 5s);
  EXPECT_EQ(PauseAfter(4'000'000'000, 5s), 5s);
}

TEST_F(KeeperTest, StartsAgainWhatWasKilled) {
  Keep(Serve());
  pid_t last = 0;
  for (std::uint64_t round = 0; round < 5; ++round) {
    const pid_t pid = Pid();
    ASSERT_NE(pid, last);
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(WaitFor([&](const Json& status) { return status["restarts"] == round + 1; }));
    last = pid;
  }
  EXPECT_EQ(keeper_->Status()["last_end"], "was killed by signal 9 (Killed)");
  EXPECT_EQ(keeper_->Status()["early_ends"], 0);
}

TEST_F(KeeperTest, EndsWhatItKeepsWhenItIsStopped) {
  Keep(Serve());
  const pid_t pid = Pid();
  Stop();
  EXPECT_EQ(exit_status_, 0);
  EXPECT_TRUE(HasEnded(pid));
}

TEST_F(KeeperTest, WaitsLongerAndLongerForWhatCrashesAtOnce) {
  Keep("kill -SEGV $$", 2s);
  ASSERT_TRUE(WaitFor([](const Json& status) { return status["early_ends"] == 5; }));
  EXPECT_EQ(keeper_->Status()["state"], "waiting");
  // 0 + 10 + 40 + 100 + 100 ms: far fewer starts than without pauses.
  std::this_thread::sleep_for(300ms);
  EXPECT_LT(keeper_->Status()["restarts"].get<int>(), 20);
  Stop();  // also while it waits
  EXPECT_EQ(exit_status_, 0);
}

TEST_F(KeeperTest, EndsWithAProgramWhoseFirstStartFails) {
  Keep("exit 3", 2s);
  thread_.join();
  EXPECT_EQ(exit_status_, 3);
}

TEST_F(KeeperTest, UpgradesToAProgramThatServes) {
  Keep(Serve());
  const pid_t before = Pid();
  const std::string program = folder_ + "/new";
  ASSERT_EQ(RunProgram({"cp", "/bin/bash", program}, "").value().exit_code, 0);
  ASSERT_TRUE(keeper_->RequestUpgrade(program).has_value());
  ASSERT_TRUE(WaitFor([](const Json& status) { return status["upgrade"]["state"] == "done"; }));
  EXPECT_TRUE(HasEnded(before));
  EXPECT_EQ(keeper_->Status()["program"], program);
  EXPECT_EQ(keeper_->Status()["restarts"], 0);
  // The new one is what an accident brings back, also when its file is gone.
  std::filesystem::remove(program);
  ::kill(Pid(), SIGKILL);
  ASSERT_TRUE(WaitFor([](const Json& status) { return status["restarts"] == 1; }));
  EXPECT_NE(Pid(), before);
}

TEST_F(KeeperTest, KeepsTheOldProgramWhenTheNewOneCannotRun) {
  Keep(Serve());
  const pid_t before = Pid();
  for (const char* program : {"/bin/false", "/etc/passwd", "/no/such/program"}) {
    ASSERT_TRUE(keeper_->RequestUpgrade(program).has_value());
    ASSERT_TRUE(WaitFor([](const Json& status) { return status["upgrade"]["state"] == "failed"; }));
    EXPECT_NE(keeper_->Status()["upgrade"]["error"].get<std::string>().find(program),
              std::string::npos);
    EXPECT_EQ(Pid(), before);
  }
  EXPECT_EQ(keeper_->RequestUpgrade("bash").error(), Errc::kInvalidArgument);
}

TEST_F(KeeperTest, GoesBackWhenTheNewProgramDoesNotServe) {
  Keep("case $BASH in */bad) exit 4 ;; esac; " + Serve());
  const pid_t before = Pid();
  const std::string program = folder_ + "/bad";
  ASSERT_EQ(RunProgram({"cp", "/bin/bash", program}, "").value().exit_code, 0);
  ASSERT_TRUE(keeper_->RequestUpgrade(program).has_value());
  ASSERT_TRUE(WaitFor([](const Json& status) { return status["upgrade"]["state"] == "failed"; }));
  EXPECT_EQ(keeper_->Status()["upgrade"]["error"],
            program + " ended with status 4; the program before it runs again");
  EXPECT_EQ(keeper_->Status()["program"], "/bin/bash");
  EXPECT_NE(Pid(), before);
}

}  // namespace
}  // namespace filer::bridge
