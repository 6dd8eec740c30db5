// The real image in real QEMU: boots, answers, stops, leaves nothing. Under TCG, which works
// everywhere. Needs root (build-image) and a minute or two when the Debian layer is not cached.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/process.h"
#include "filer-guest/launcher/launcher.h"
#include "filer-guest/launcher/qmp.h"

namespace filer::guest {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kCall{30'000};

// Folder of the image; builds it if its inputs have changed.
std::string ImageOf(const std::string& flavor) {
  const char* cache = std::getenv("FILER_CACHE");
  const std::string home = std::getenv("HOME") == nullptr ? "/root" : std::getenv("HOME");
  const std::string out =
      (cache != nullptr ? std::string(cache) : home + "/.cache/nearmetal") + "/test-images";
  const std::string command = std::string(FILER_SOURCE_DIR) +
                              "/filer-guest/image/build-image --agent-only --bin " +
                              FILER_BINARY_DIR + " --out " + out + " --flavor " + flavor + " >&2";
  if (std::system(command.c_str()) != 0) return {};
  std::error_code error;
  return fs::canonical(out + "/" + flavor, error).string();
}

class GuestBoot : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "must run as root";
    std::string shape = (fs::temp_directory_path() / "gb.XXXXXX").string();
    folder_ = ::mkdtemp(shape.data());
  }
  void TearDown() override {
    if (folder_.empty()) return;
    if (const auto guest = FindGuest(folder_)) {
      ::kill(guest.value().process.pid, SIGKILL);
    }
    std::error_code error;
    fs::remove_all(folder_, error);
  }

  GuestOptions Options(const std::string& flavor) {
    GuestOptions options;
    options.image_dir = ImageOf(flavor);
    options.run_dir = folder_;
    options.cache_dir = folder_;
    options.memory_mb = 512;
    options.cpus = 1;
    options.accelerator = Accelerator::kTcg;
    options.boot_deadline = milliseconds(180'000);  // machines of the CI are loaded
    return options;
  }

  std::string folder_;
};

std::string ConsoleOf(const std::string& folder) {
  std::ifstream file(folder + "/console.log");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(GuestBoot, BootsAnswersStopsAndLeavesNothing) {
  const GuestOptions options = Options("filer");
  ASSERT_FALSE(options.image_dir.empty());
  const auto guest = StartGuest(options);
  ASSERT_TRUE(guest.has_value()) << guest.error().message() << "\n" << ConsoleOf(folder_);
  const auto hello = CallAgent(guest.value().agent_socket, "hello", Json::object(), kCall);
  ASSERT_TRUE(hello.has_value()) << hello.error().message();
  EXPECT_THAT(hello.value()["kernel"].get<std::string>(), HasSubstr("6.1."));
  EXPECT_EQ(hello.value()["network_error"], "");
  EXPECT_GT(hello.value()["boot_ms"].get<int>(), 0);
  const auto health = CallAgent(guest.value().agent_socket, "health", Json::object(), kCall);
  ASSERT_TRUE(health.has_value());
  EXPECT_EQ(health.value()["state"], "idle");

  EXPECT_TRUE(StartGuest(options).error() == Errc::kBusy);
  {
    const auto client = QmpClient::Connect(guest.value().qmp_socket, kCall);
    ASSERT_TRUE(client.has_value()) << client.error().message();
    const auto status = client.value()->Execute("query-status", Json::object(), kCall);
    EXPECT_EQ(status.value()["status"], "running");
    EXPECT_EQ(CpuThreads(*client.value(), kCall).value().size(), 1u);
  }
  const auto stopped = StopGuest(guest.value(), milliseconds(60'000));
  ASSERT_TRUE(stopped.has_value());
  EXPECT_TRUE(stopped.value().is_clean) << stopped.value().note;
  EXPECT_FALSE(IsRunning(guest.value().process));
  for (const char* name : {"agent.sock", "qmp.sock", "guest.json"}) {
    EXPECT_FALSE(fs::exists(folder_ + "/" + name)) << name;
  }
}

TEST_F(GuestBoot, ManyShortConnectionsLoseNoAnswer) {
  const auto guest = StartGuest(Options("filer"));
  ASSERT_TRUE(guest.has_value()) << guest.error().message() << "\n" << ConsoleOf(folder_);
  for (int round = 0; round < 50; ++round) {
    const auto hello = CallAgent(guest.value().agent_socket, "hello", Json::object(), kCall);
    ASSERT_TRUE(hello.has_value()) << round << ": " << hello.error().message();
  }
  ::kill(guest.value().process.pid, SIGKILL);
  for (int round = 0; round < 1000 && IsRunning(guest.value().process); ++round) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(FindGuest(folder_).error() == Errc::kNotRunning);
  const auto stopped = StopGuest(guest.value(), milliseconds(1'000));
  ASSERT_TRUE(stopped.has_value());
  EXPECT_FALSE(stopped.value().is_clean);
  EXPECT_FALSE(fs::exists(folder_ + "/guest.json"));
}

TEST_F(GuestBoot, GuestThatDiesWhileBootingIsReportedWithItsWords) {
  GuestOptions options = Options("filer");
  ASSERT_FALSE(options.image_dir.empty());
  const std::string broken = folder_ + "/image";
  fs::create_directories(broken);
  for (const char* name : {"kernel", "initrd", "manifest.json"}) {
    fs::create_symlink(options.image_dir + "/" + name, broken + "/" + name);
  }
  std::ofstream(broken + "/root.squashfs") << std::string(1 << 20, 'x');
  options.image_dir = broken;
  const auto guest = StartGuest(options);
  ASSERT_TRUE(guest.error() == Errc::kDeviceGone) << guest.error().message();
  EXPECT_THAT(ConsoleOf(folder_), HasSubstr("mount the root image"));
}

TEST_F(GuestBoot, ClientGuestRunsScripts) {
  const auto guest = StartGuest(Options("client"));
  ASSERT_TRUE(guest.has_value()) << guest.error().message() << "\n" << ConsoleOf(folder_);
  const std::string socket = guest.value().agent_socket;
  const Json script{
      {"script",
       "for p in tar git sqlite3 rsync find mount.nfs mount.cifs; do command -v $p || "
       "exit 4; done\ngit --version && sqlite3 :memory: 'select 40+2'\n"
       "grep -w nfs4 /proc/filesystems && grep -w cifs /proc/filesystems\nexit 3\n"}};
  ASSERT_TRUE(CallAgent(socket, "run", script, kCall).has_value());
  Json outcome;
  for (int round = 0; round < 600; ++round) {
    const auto answer = CallAgent(socket, "outcome", Json::object(), kCall);
    ASSERT_TRUE(answer.has_value()) << answer.error().message();
    outcome = answer.value();
    if (outcome["done"] == true) break;
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_EQ(outcome["exit"], "exit code 3") << outcome.dump(2);
  EXPECT_THAT(outcome["output"].get<std::string>(), HasSubstr("\n42\n"));
  EXPECT_TRUE(StopGuest(guest.value(), milliseconds(60'000)).value().is_clean);
}

}  // namespace
}  // namespace filer::guest
