// The server against clients that mean no good, and the client against such servers.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "base/json_rpc.h"
#include "base/socket_address.h"

namespace filer {
namespace {

using namespace std::chrono_literals;

std::string SocketPath() {
  static std::atomic<int> number{0};
  return testing::TempDir() + "rpc_" + std::to_string(::getpid()) + "_" + std::to_string(number++);
}

// A plain connection: what no well-behaved client does.
class Peer {
 public:
  explicit Peer(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    const sockaddr_un address = SocketAddressOf(path).value();
    EXPECT_EQ(
        ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }
  // False when the other end has closed.
  bool Say(const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t done =
          ::send(socket_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (done <= 0) return false;
      sent += static_cast<std::size_t>(done);
    }
    return true;
  }
  // Reads to the end of the connection: how many bytes, or -1 when it does not come.
  std::int64_t ReadToEnd() {
    std::int64_t total = 0;
    char buffer[65536];
    while (true) {
      const ssize_t got = ::read(socket_.get(), buffer, sizeof(buffer));
      if (got == 0 || (got < 0 && errno == ECONNRESET)) return total;
      if (got < 0) return -1;
      total += got;
    }
  }

 private:
  UniqueFd socket_;
};

class RpcServerTest : public testing::Test {
 protected:
  void Serve(RpcLimits limits = {}) {
    RpcMethods methods;
    methods["echo"] = [](const Json& params) -> Result<Json> { return params; };
    methods["much"] = [](const Json&) -> Result<Json> {
      return Json{{"text", std::string(kRpcLineBytesMax / 2, 'x')}};
    };
    methods["hang"] = RpcWaiting([this](const Json&) -> Result<Json> {
      ++hanging_;
      released_.wait();
      return Json::object();
    });
    server_ = RpcServer::Listen(path_, std::move(methods), limits).value();
  }
  void TearDown() override { Release(); }
  void Release() {
    if (!is_released_) release_.set_value();
    is_released_ = true;
  }
  bool Answers() {
    auto client = RpcClient::Connect(path_);
    return client.has_value() && client.value().Call("echo", {{"a", 1}}, 10s).has_value();
  }
  bool Eventually(const std::function<bool()>& condition) {
    for (int round = 0; round < 2000; ++round) {
      if (condition()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }

  const std::string path_ = SocketPath();
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
  bool is_released_ = false;
  std::atomic<int> hanging_{0};
  std::unique_ptr<RpcServer> server_;
};

TEST_F(RpcServerTest, IsForItsOwnerOnly) {
  const mode_t before = ::umask(0);
  Serve();
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(RpcServerTest, ClosesALineThatNeverEnds) {
  Serve();
  Peer peer(path_);
  peer.Say(std::string(3 * kRpcLineBytesMax, 'x'));
  EXPECT_EQ(peer.ReadToEnd(), 0);
  EXPECT_TRUE(Answers());
}

TEST_F(RpcServerTest, ClosesWhoeverTakesNoAnswer) {
  Serve({.write_max = 100ms});
  Peer slow(path_);
  for (int call = 0; call < 64; ++call) slow.Say("{\"id\":1,\"method\":\"much\"}\n");
  EXPECT_TRUE(Answers());  // meanwhile
  std::this_thread::sleep_for(500ms);
  const std::int64_t taken = slow.ReadToEnd();
  EXPECT_GE(taken, 0);
  EXPECT_LT(taken, std::int64_t{kRpcLineBytesMax});  // what the socket held; not 64 answers
}

TEST_F(RpcServerTest, ClosesWhoeverSaysNothing) {
  Serve({.idle_max = 100ms});
  Peer silent(path_);
  EXPECT_EQ(silent.ReadToEnd(), 0);
  Peer half(path_);
  half.Say("{\"id\":1,");
  EXPECT_EQ(half.ReadToEnd(), 0);
  EXPECT_TRUE(Answers());
}

TEST_F(RpcServerTest, ServesNoMoreConnectionsThanItsLimit) {
  Serve({.connection_count_max = 3});
  std::vector<std::unique_ptr<RpcClient>> clients;
  for (int client = 0; client < 3; ++client) {
    clients.push_back(std::make_unique<RpcClient>(RpcClient::Connect(path_).value()));
    ASSERT_TRUE(clients.back()->Call("echo", Json::object(), 10s).has_value());
  }
  EXPECT_EQ(Peer(path_).ReadToEnd(), 0);
  EXPECT_TRUE(clients[0]->Call("echo", Json::object(), 10s).has_value());
  clients.clear();
  EXPECT_TRUE(Eventually([this] { return Answers(); }));
}

TEST_F(RpcServerTest, AnswersBesideMethodsThatHang) {
  Serve({.waiting_threads = 2, .waiting_calls_max = 3});
  std::vector<std::unique_ptr<Peer>> hung;
  for (int call = 0; call < 3; ++call) {
    hung.push_back(std::make_unique<Peer>(path_));
    hung.back()->Say("{\"id\":1,\"method\":\"hang\"}\n");
  }
  ASSERT_TRUE(Eventually([this] { return hanging_ == 2; }));  // the third waits for a thread
  EXPECT_TRUE(Answers());
  Result<Json> refused = Error(Errc::kTimedOut);
  // The third may not have been read yet: then this one takes its place.
  ASSERT_TRUE(Eventually([&] {
    refused = RpcClient::Connect(path_).value().Call("hang", Json::object(), 1s);
    return refused.has_value() || !(refused.error() == Errc::kTimedOut);
  }));
  EXPECT_EQ(refused.error(), Errc::kBusy);
  hung.clear();  // nobody waits for the answers any more
  Release();
  EXPECT_TRUE(Eventually([this] {
    auto later = RpcClient::Connect(path_);
    return later.has_value() && later.value().Call("hang", Json::object(), 10s).has_value();
  }));
  EXPECT_EQ(hanging_, 4);
}

TEST_F(RpcServerTest, EndsWithCallsUnderWay) {
  Serve({.waiting_threads = 1});
  Peer running(path_), waiting(path_);
  running.Say("{\"id\":1,\"method\":\"hang\"}\n");
  ASSERT_TRUE(Eventually([this] { return hanging_ == 1; }));
  waiting.Say("{\"id\":1,\"method\":\"hang\"}\n");
  EXPECT_TRUE(Answers());
  Release();
  server_.reset();
  EXPECT_GE(running.ReadToEnd(), 0);
  EXPECT_GE(waiting.ReadToEnd(), 0);
}

TEST_F(RpcServerTest, GivesCausesToTheClient) {
  RpcMethods methods;
  methods["fail"] = [](const Json&) -> Result<Json> { return Error(Errc::kNoSpace, "disk full"); };
  server_ = RpcServer::Listen(path_, std::move(methods)).value();
  auto client = RpcClient::Connect(path_).value();
  const auto failed = client.Call("fail", Json::object(), 10s);
  EXPECT_EQ(failed.error(), Errc::kNoSpace);
  EXPECT_EQ(failed.error().message(), "disk full");
  EXPECT_EQ(client.Call("none", Json::object(), 10s).error(), Errc::kNotSupported);
}

// A socket on which nobody does anything.
UniqueFd DeafListener(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un address = SocketAddressOf(path).value();
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(socket.get(), 0), 0);
  return socket;
}

TEST(RpcClient, GivesUpOnAProcessThatHangs) {
  const std::string path = SocketPath();
  const UniqueFd listener = DeafListener(path);
  auto first = RpcClient::Connect(path);
  ASSERT_TRUE(first.has_value());
  // More than the socket holds, which nobody reads.
  const Json large = {{"text", std::string(kRpcLineBytesMax / 2, 'x')}};
  EXPECT_EQ(first.value().Call("echo", large, 100ms).error(), Errc::kTimedOut);
  EXPECT_EQ(RpcClient::Connect(path).error(), Errc::kTimedOut);
  ::unlink(path.c_str());
}

TEST(RpcClient, RefusesAnAnswerThatNestsTooDeep) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd server(ends[1]);
  const std::string answer =
      R"({"id":1,"result":)" + std::string(200'000, '[') + std::string(200'000, ']') + "}\n";
  std::thread talking([&] {
    for (std::size_t sent = 0; sent < answer.size();) {
      const ssize_t done =
          ::send(server.get(), answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
      if (done <= 0) return;
      sent += static_cast<std::size_t>(done);
    }
  });
  RpcClient client{UniqueFd(ends[0])};
  EXPECT_EQ(client.Call("echo", Json::object(), 10s).error(), Errc::kProtocol);
  talking.join();
}

}  // namespace
}  // namespace filer
