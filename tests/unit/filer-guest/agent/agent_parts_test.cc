// Modules, network words, the port's lines, children, huge pages.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "filer-guest/agent/children.h"
#include "filer-guest/agent/engine_call.h"
#include "filer-guest/agent/huge_pages.h"
#include "filer-guest/agent/modules.h"
#include "filer-guest/agent/network.h"
#include "filer-guest/agent/port_server.h"

namespace filer::agent {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string shape = (fs::temp_directory_path() / "agent-test.XXXXXX").string();
    path_ = ::mkdtemp(shape.data());
  }
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

TEST(ModuleIndex, OrdersByNeedWhateverTheSpelling) {
  const ModuleIndex index = ModuleIndex::Parse(
      "kernel/net/virtio-net.ko: kernel/net/failover.ko kernel/virtio.ko\n"
      "kernel/virtio.ko:\nnot a line\nkernel/net/failover.ko:\n");
  const auto order = index.LoadOrder("virtio_net");
  ASSERT_TRUE(order.has_value());
  EXPECT_THAT(order.value(), ElementsAre("kernel/virtio.ko", "kernel/net/failover.ko",
                                         "kernel/net/virtio-net.ko"));
  EXPECT_TRUE(index.LoadOrder("virtio-net").has_value());
  EXPECT_TRUE(index.LoadOrder("other").error() == Errc::kNotFound);
}

TEST(NetworkPlan, ReadsTheKernelsCommandLine) {
  EXPECT_FALSE(ParseNetworkPlan("quiet panic=-1").value().has_value());
  EXPECT_TRUE(ParseNetworkPlan("a nearmetal.net=dhcp\n").value()->is_dhcp);
  const auto plan = ParseNetworkPlan("a nearmetal.net=10.0.2.15/24,10.0.2.2 b").value();
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->address, "10.0.2.15");
  EXPECT_EQ(plan->prefix, 24u);
  EXPECT_EQ(plan->gateway, "10.0.2.2");
  EXPECT_EQ(ParseNetworkPlan("nearmetal.net=10.0.0.1/8").value()->gateway, "");
}

TEST(NetworkPlan, RefusesNonsense) {
  for (const char* words : {"", "10.0.2.15", "10.0.2.15/33", "10.0.2/24", "10.0.2.15/24,",
                            "10.0.2.15/24,x", "10.0.2.15/x", "10.0.2.15/-1", "10.0.2.15,1/24"}) {
    EXPECT_FALSE(ParseNetworkPlan(std::string("nearmetal.net=") + words).has_value()) << words;
  }
}

TEST(LineSplitter, SplitsAcrossChunksAndSkipsEndlessLines) {
  LineSplitter splitter(8);
  LineSplitter::Line line;
  splitter.Add("ab", 2);
  EXPECT_FALSE(splitter.Next(line));
  splitter.Add("c\n\nxy\n", 6);
  ASSERT_TRUE(splitter.Next(line));
  EXPECT_EQ(line.text, "abc");
  ASSERT_TRUE(splitter.Next(line));
  EXPECT_EQ(line.text, "");
  ASSERT_TRUE(splitter.Next(line));
  EXPECT_EQ(line.text, "xy");
  for (int chunk = 0; chunk < 1000; ++chunk) {
    splitter.Add("0123456789", 10);
    EXPECT_FALSE(splitter.Next(line));
  }
  splitter.Add("tail\nok\n", 8);
  ASSERT_TRUE(splitter.Next(line));
  EXPECT_TRUE(line.is_too_long);
  ASSERT_TRUE(splitter.Next(line));
  EXPECT_EQ(line.text, "ok");
  EXPECT_FALSE(line.is_too_long);
}

// The host's side of a port that is a socket pair here.
TEST(PortServer, AnswersAndSurvivesGarbage) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  RpcMethods methods;
  methods["echo"] = [](const Json& params) -> Result<Json> { return params; };
  PortServer server(UniqueFd(ends[0]), methods);
  std::thread serving([&server] { EXPECT_TRUE(server.Run().has_value()); });
  {
    const std::string garbage =
        "\n{\"half\": \n\x01\xff\n[[[[\n" + std::string(3 << 20, 'x') + "\n";
    std::thread talking([&garbage, host = ends[1]] {
      for (std::size_t sent = 0; sent < garbage.size();) {
        const ssize_t done = ::write(host, garbage.data() + sent, garbage.size() - sent);
        if (done > 0) sent += static_cast<std::size_t>(done);
        if (done < 0) std::this_thread::sleep_for(milliseconds(1));
      }
    });
    talking.join();
    RpcClient client{UniqueFd(::dup(ends[1]))};
    const auto answer = client.Call("echo", Json{{"a", 1}}, std::chrono::seconds(20));
    ASSERT_TRUE(answer.has_value()) << answer.error().message();
    EXPECT_EQ(answer.value()["a"], 1);
  }
  server.Stop();
  serving.join();
  ::close(ends[1]);
}

// A call that hangs keeps nobody else from an answer, and its own comes when it is done.
TEST(PortServer, AnswersBesideMethodsThatWait) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  RpcMethods methods;
  methods["echo"] = [](const Json& params) -> Result<Json> { return params; };
  methods["hang"] = RpcWaiting([released](const Json&) -> Result<Json> {
    released.wait();
    return Json{{"done", true}};
  });
  PortServer server(UniqueFd(ends[0]), methods);
  std::thread serving([&server] { EXPECT_TRUE(server.Run().has_value()); });
  RpcClient first{UniqueFd(::dup(ends[1]))};
  EXPECT_EQ(first.Call("hang", Json::object(), milliseconds(50)).error(), Errc::kTimedOut);
  RpcClient second{UniqueFd(::dup(ends[1]))};
  EXPECT_TRUE(second.Call("echo", Json::object(), std::chrono::seconds(20)).has_value());
  // More than it takes: an answer, too.
  Result<Json> refused = Error(Errc::kTimedOut);
  for (int call = 0; call < 20 && refused.error() == Errc::kTimedOut; ++call) {
    refused = second.Call("hang", Json::object(), milliseconds(50));
    ASSERT_FALSE(refused.has_value());
  }
  EXPECT_EQ(refused.error(), Errc::kBusy);
  release.set_value();
  EXPECT_TRUE(second.Call("echo", Json::object(), std::chrono::seconds(20)).has_value());
  server.Stop();
  serving.join();
  ::close(ends[1]);
}

std::string EngineSocketPath() { return "/tmp/nm-engine-" + std::to_string(::getpid()) + ".sock"; }

TEST(CallEngine, BringsTheEnginesAnswersAndErrors) {
  RpcMethods methods;
  methods["echo"] = [](const Json& params) -> Result<Json> { return params; };
  methods["fail"] = [](const Json&) -> Result<Json> {
    return Error(Errc::kExists, "there is one");
  };
  const std::string path = EngineSocketPath();
  EXPECT_EQ(CallEngine(path, {{"method", "echo"}}).error(), Errc::kNotRunning);
  const auto engine = RpcServer::Listen(path, std::move(methods)).value();
  EXPECT_EQ(CallEngine(path, {{"method", "echo"}, {"params", {{"a", 1}}}}).value()["a"], 1);
  const auto failed = CallEngine(path, {{"method", "fail"}});
  EXPECT_EQ(failed.error(), Errc::kExists);
  EXPECT_EQ(failed.error().message(), "there is one");
  EXPECT_EQ(CallEngine(path, {{"method", "none"}}).error(), Errc::kNotSupported);
  for (const char* bad :
       {"{}", R"({"method":1})", R"({"method":"echo","params":[]})",
        R"({"method":"echo","timeout_ms":0})", R"({"method":"echo","timeout_ms":-1})",
        R"({"method":"echo","timeout_ms":60001})", R"({"method":"echo","timeout_ms":"1"})"}) {
    EXPECT_EQ(CallEngine(path, Json::parse(bad)).error(), Errc::kInvalidArgument) << bad;
  }
}

TEST(CallEngine, GivesUpOnAnEngineThatHangs) {
  std::promise<void> release;
  RpcMethods methods;
  methods["hang"] =
      RpcWaiting([released = release.get_future().share()](const Json&) -> Result<Json> {
        released.wait();
        return Json::object();
      });
  const auto engine = RpcServer::Listen(EngineSocketPath(), std::move(methods)).value();
  EXPECT_EQ(CallEngine(EngineSocketPath(), {{"method", "hang"}, {"timeout_ms", 50u}}).error(),
            Errc::kTimedOut);
  release.set_value();
}

ChildSpec Shell(const TemporaryFolder& folder, const std::string& script) {
  ChildSpec spec;
  spec.name = "child";
  spec.arguments = {"sh", "-c", script};
  spec.log_path = folder / "log";
  return spec;
}

TEST(Children, RunGivesInputAndKeepsTheLastLines) {
  const TemporaryFolder folder;
  Children children(true);
  ChildSpec spec = Shell(folder, "read word; echo got $word; [ $word = right ]");
  spec.input = "right\n";
  EXPECT_TRUE(children.Run(spec, milliseconds(10'000)).has_value());
  spec.input = "wrong\n";
  const auto refused = children.Run(spec, milliseconds(10'000));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message(), HasSubstr("exit code 1"));
  EXPECT_THAT(refused.error().message(), HasSubstr("got wrong"));
}

TEST(Children, MissingProgramIsSaid) {
  const TemporaryFolder folder;
  Children children(true);
  ChildSpec spec = Shell(folder, "");
  spec.arguments = {"/no/such/program"};
  EXPECT_TRUE(children.Start(spec).error() == Errc::kNotFound);
}

TEST(Children, StopKillsADeafOneAndItsFamily) {
  const TemporaryFolder folder;
  Children children(true);
  ASSERT_TRUE(children
                  .Start(Shell(folder,
                               "trap '' TERM; sleep 1000 & echo $! ; while :; do sleep "
                               "0.1; done"))
                  .has_value());
  std::string text;
  for (int round = 0; round < 1000 && text.empty(); ++round) {
    text = children.LogTail("child", 100);
    std::this_thread::sleep_for(milliseconds(5));
  }
  const pid_t grandchild = std::stoi(text);
  EXPECT_FALSE(children.Stop("child", milliseconds(100)));
  EXPECT_FALSE(children.Find("child")->is_running);
  EXPECT_EQ(children.Find("child")->ending, "signal 9");
  // Gone, or a zombie that nobody here can reap; the kernel may take its time.
  std::string line;
  bool is_gone = false;
  for (int round = 0; round < 2000 && !is_gone; ++round) {
    std::ifstream stat("/proc/" + std::to_string(grandchild) + "/stat");
    line.clear();
    std::getline(stat, line);
    is_gone = line.empty() || line.find(") Z") != std::string::npos;
    if (!is_gone) std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_TRUE(is_gone) << line;
}

TEST(Children, StopOfAWillingOneIsClean) {
  const TemporaryFolder folder;
  Children children(true);
  ASSERT_TRUE(children.Start(Shell(folder, "exec sleep 1000")).has_value());
  EXPECT_TRUE(children.Start(Shell(folder, ":")).error() == Errc::kBusy);
  EXPECT_TRUE(children.Stop("child", milliseconds(10'000)));
  EXPECT_TRUE(children.Stop("child", milliseconds(0)));
}

TEST(FileTail, StartsAtALine) {
  const TemporaryFolder folder;
  std::ofstream(folder / "f") << "first line\nsecond\nthird\n";
  EXPECT_EQ(FileTail(folder / "f", 1000), "first line\nsecond\nthird");
  EXPECT_EQ(FileTail(folder / "f", 10), "third");
  EXPECT_EQ(FileTail(folder / "none", 10), "");
}

TEST(HugePages, AsksForWhatIsMissingAndBelievesOnlyWhatItGot) {
  const TemporaryFolder folder;
  EXPECT_TRUE(ReserveHugePages(4, folder / "sys").error() == Errc::kNotSupported);
  const std::string pages = folder / "sys/kernel/mm/hugepages/hugepages-2048kB";
  fs::create_directories(pages);
  std::ofstream(pages + "/nr_hugepages") << "10\n";
  std::ofstream(pages + "/free_hugepages") << "2\n";
  EXPECT_TRUE(ReserveHugePages(4, folder / "sys").has_value());
  const auto refused = ReserveHugePages(100, folder / "sys");  // these files free nothing
  ASSERT_TRUE(refused.error() == Errc::kNoMemory);
  std::ifstream asked(pages + "/nr_hugepages");
  int count = 0;
  asked >> count;
  EXPECT_EQ(count, 10 + 50 - 2);
}

}  // namespace
}  // namespace filer::agent
