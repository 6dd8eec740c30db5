// The program host-bridge: what it is allowed to while it serves, and that it serves nevertheless.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "host-bridge/daemon/confine.h"
#include "tests/unit/host-bridge/target/fake_driver.h"

extern char** environ;

namespace filer::bridge {
namespace {

namespace fs = std::filesystem;

class DaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/filer-daemon-XXXXXX";
    folder_ = ::mkdtemp(name);
    const UniqueFd fd(::open((folder_ + "/volume").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(fd.get(), 1 << 20), 0);
  }
  void TearDown() override {
    if (daemon_ > 0) {
      ::kill(daemon_, SIGKILL);
      ::waitpid(daemon_, nullptr, 0);
    }
    fs::remove_all(folder_);
  }
  void Start(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {
        FILER_HOST_BRIDGE, "--control", folder_ + "/c.sock", "--volume",
        "name=v,backend=file,path=" + folder_ + "/volume,socket=" + folder_ + "/v.sock"};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 2, (folder_ + "/log").c_str(),
                                       O_CREAT | O_WRONLY | O_APPEND, 0600);
    ASSERT_EQ(
        ::posix_spawn(&daemon_, FILER_HOST_BRIDGE, &actions, nullptr, pointers.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 1000 && !Status().has_value(); ++i) ::usleep(10'000);
    ASSERT_TRUE(Status().has_value()) << Log();
  }
  int Stop() {
    ::kill(daemon_, SIGTERM);
    int status = -1;
    ::waitpid(daemon_, &status, 0);
    daemon_ = 0;
    return status;
  }
  Result<Json> Status() {
    auto client = FILER_TRY(RpcClient::Connect(folder_ + "/c.sock"));
    return client.Call("status", Json::object(), std::chrono::seconds(5));
  }
  std::string Log() { return ReadWholeFile(folder_ + "/log").value(); }
  std::string Proc(const std::string& what) const {
    return "/proc/" + std::to_string(daemon_) + "/" + what;
  }
  // Fields of /proc/.../status of each thread.
  std::vector<std::map<std::string, std::string>> Threads() {
    std::vector<std::map<std::string, std::string>> threads;
    for (const auto& task : fs::directory_iterator(Proc("task"))) {
      auto& fields = threads.emplace_back();
      std::ifstream file(task.path() / "status");
      for (std::string line; std::getline(file, line);) {
        const auto colon = line.find(":\t");
        if (colon != std::string::npos) fields[line.substr(0, colon)] = line.substr(colon + 2);
      }
    }
    return threads;
  }
  void ExpectServes() {
    FakeDriver driver(folder_ + "/v.sock");
    driver.Start();
    std::memset(driver.Data(0), 0x77, 4096);
    ASSERT_EQ(driver.Do(virtio::kRequestOut, 8, 4096), virtio::kStatusOk) << Log();
    std::memset(driver.Data(0), 0, 4096);
    ASSERT_EQ(driver.Do(virtio::kRequestIn, 8, 4096), virtio::kStatusOk);
    EXPECT_EQ(driver.Data(0)[4095], 0x77);
    EXPECT_EQ(driver.Do(virtio::kRequestFlush, 0, 0), virtio::kStatusOk);
  }

  std::string folder_;
  pid_t daemon_ = 0;
};

TEST_F(DaemonTest, ServesAndStopsWhenConfined) {
  Start();
  ExpectServes();
  ExpectServes();  // the next client
  EXPECT_EQ(Stop(), 0) << Log();
  Start();  // over the sockets that it could not remove
  ExpectServes();
  EXPECT_EQ(Stop(), 0) << Log();
}

// Two clients on one volume each is not needed: what more threads call is the same.
TEST_F(DaemonTest, SeveralPollersServeAndAreCountedEachAndTogether) {
  Start({"--pollers", "2"});
  ExpectServes();
  const auto answer = Status();
  ASSERT_TRUE(answer.has_value());
  const Json& status = answer.assume_value();
  ASSERT_EQ(status["pollers"].size(), 2U);
  for (const char* key : {"polls", "busy_polls", "sleeps", "lent", "returned", "borrowed"}) {
    // They go on while they are read, one after the other.
    const auto sum = status["poller"][key].get<std::uint64_t>();
    std::uint64_t each = 0;
    for (const Json& poller : status["pollers"]) each += poller[key].get<std::uint64_t>();
    EXPECT_LE(each, sum) << key;
  }
  EXPECT_TRUE(status["pollers"][1]["cpu"].is_null());
  EXPECT_TRUE(status["pollers"][1]["busy_queues"].is_number());
  EXPECT_GT(status["poller"]["busy_polls"].get<std::uint64_t>(), 0U);
  EXPECT_EQ(Stop(), 0) << Log();
}

TEST_F(DaemonTest, GivesUpItsPrivilegesInEveryThread) {
  if (!CanConfine()) GTEST_SKIP() << "nothing is given up under a sanitizer";
  Start({"--pollers", "2"});
  ExpectServes();
  const auto threads = Threads();
  EXPECT_GE(threads.size(), 4u);  // main, control socket, two pollers
  for (const auto& thread : threads) {
    const std::string& name = thread.at("Name");
    EXPECT_EQ(thread.at("NoNewPrivs"), "1") << name;
    EXPECT_EQ(thread.at("Seccomp"), "2") << name;
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
      EXPECT_EQ(thread.at(set), "0000000000000000") << name << " " << set;
    }
    if (::geteuid() != 0) continue;
    EXPECT_EQ(thread.at("CapBnd"), "0000000000000000") << name;
    EXPECT_THAT(thread.at("Uid"), testing::Not(testing::HasSubstr("\t0"))) << name;
    EXPECT_THAT(thread.at("Uid"), testing::StartsWith("6")) << name;
    EXPECT_THAT(thread.at("Gid"), testing::StartsWith("6")) << name;
    EXPECT_EQ(thread.at("Groups").find_first_not_of(' '), std::string::npos) << name;
  }
  if (::geteuid() != 0) return;
  EXPECT_THAT(fs::read_symlink(Proc("root")).string(), testing::HasSubstr("(deleted)"));
  EXPECT_NE(fs::read_symlink(Proc("ns/net")), fs::read_symlink("/proc/self/ns/net"));
}

// What it was given by mistake is closed, and what it opened is named here.
TEST_F(DaemonTest, HasOnlyTheDescriptorsItNeeds) {
  const int stray = ::open("/etc/passwd", O_RDONLY);  // inheritable
  ASSERT_GE(stray, 3);
  Start();
  ::close(stray);
  for (const auto& entry : fs::directory_iterator(Proc("fd"))) {
    std::error_code gone;  // a connection's, which was just closed
    const std::string target = fs::read_symlink(entry.path(), gone);
    if (gone) continue;
    const int number = std::stoi(entry.path().filename());
    if (number > 2) {
      EXPECT_THAT(target,
                  testing::AnyOf(testing::StartsWith("socket:"), testing::StartsWith("anon_inode:"),
                                 testing::StrEq(folder_ + "/volume")));
    }
  }
}

TEST_F(DaemonTest, SurvivesTruncatedMemoryWhenConfined) {
  Start();
  FakeDriver driver(folder_ + "/v.sock");
  driver.Start();
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  ASSERT_EQ(::ftruncate(driver.memory().fd(), 0), 0);
  driver.Kick();  // it may sleep already, and a sleeper does not look at the memory
  EXPECT_TRUE(driver.IsClosed());
  ExpectServes();
  EXPECT_EQ(Stop(), 0) << Log();
}

TEST_F(DaemonTest, StaysWhoItWasWhenToldTo) {
  Start({"--confine", "off"});
  ExpectServes();
  for (const auto& thread : Threads()) {
    EXPECT_EQ(thread.at("Seccomp"), "0");
    EXPECT_EQ(std::stoul(thread.at("Uid")), ::geteuid());
  }
  EXPECT_EQ(Stop(), 0) << Log();
  EXPECT_FALSE(fs::exists(folder_ + "/v.sock"));  // it can remove them then
}

}  // namespace
}  // namespace filer::bridge
