// Waiting for readiness, and the NFS NULL call, against scripted peers.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <thread>

#include "filer-guest/launcher/launcher.h"
#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

// Answers each connection with `reply` after one call was read; the reply's xid is the call's.
class FakeNfs {
 public:
  explicit FakeNfs(std::vector<std::uint32_t> reply)
      : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), reply_(std::move(reply)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    socklen_t size = sizeof(address);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeNfs() {
    is_stopping_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::uint16_t port() const { return port_; }

 private:
  void Serve() {
    while (!is_stopping_) {
      const UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client.is_open()) return;
      std::array<std::uint32_t, 11> call{};
      if (::recv(client.get(), call.data(), sizeof(call), MSG_WAITALL) != sizeof(call)) continue;
      EXPECT_EQ(ntohl(call[0]), 0x80000000u | 40);
      EXPECT_EQ(ntohl(call[3]), 2u);
      EXPECT_EQ(ntohl(call[4]), 100003u);
      std::vector<std::uint32_t> words = reply_;
      for (std::uint32_t& word : words) word = htonl(word);
      if (words.size() > 1) words[1] = call[1];
      ::send(client.get(), words.data(), words.size() * 4, MSG_NOSIGNAL);
      if (words.empty()) std::this_thread::sleep_for(milliseconds(300));
    }
  }

  UniqueFd listener_;
  std::vector<std::uint32_t> reply_;
  std::uint16_t port_ = 0;
  std::atomic<bool> is_stopping_{false};
  std::thread thread_;
};

const std::vector<std::uint32_t> kGoodReply = {0x80000018, 0, 1, 0, 0, 0, 0};

TEST(ProbeNfs, TakesASuccessAndNothingElse) {
  const FakeNfs good(kGoodReply);
  EXPECT_TRUE(ProbeNfs("127.0.0.1", good.port(), 4, milliseconds(20'000)).has_value());
  for (const auto& reply :
       std::vector<std::vector<std::uint32_t>>{{0x80000018, 0, 1, 0, 0, 0, 2},  // version mismatch
                                               {0x80000018, 0, 1, 1, 0, 0, 0},  // denied
                                               {0x80000018, 0, 0, 0, 0, 0, 0},  // a call
                                               {0, 1, 2, 3, 4, 5, 6}}) {
    const FakeNfs bad(reply);
    EXPECT_TRUE(ProbeNfs("127.0.0.1", bad.port(), 4, milliseconds(20'000)).error() ==
                Errc::kProtocol);
  }
}

TEST(ProbeNfs, AcceptWithoutAnAnswerIsNotReadiness) {
  const FakeNfs closing({1});
  EXPECT_TRUE(ProbeNfs("127.0.0.1", closing.port(), 4, milliseconds(20'000)).error() ==
              Errc::kNotRunning);
  const FakeNfs silent({});
  EXPECT_TRUE(ProbeNfs("127.0.0.1", silent.port(), 4, milliseconds(50)).error() == Errc::kTimedOut);
}

RpcMethods AgentSaying(std::vector<Json> healths) {
  RpcMethods methods;
  auto at = std::make_shared<std::size_t>(0);
  methods["health"] = [healths = std::move(healths), at](const Json&) -> Result<Json> {
    return healths[std::min((*at)++, healths.size() - 1)];
  };
  return methods;
}

TEST(WaitUntilReady, WaitsForReadyAndForNfs) {
  const TemporaryFolder folder;
  const FakeNfs nfs(kGoodReply);
  const auto agent = RpcServer::Listen(
      folder / "a", AgentSaying({Json{{"state", "starting"}}, Json{{"state", "ready"}}}));
  ASSERT_TRUE(agent.has_value());
  ReadinessOptions options;
  options.agent_socket = folder / "a";
  options.nfs_port = nfs.port();
  const auto health = WaitUntilReady(options);
  ASSERT_TRUE(health.has_value()) << health.error().message();
  EXPECT_EQ(health.value()["state"], "ready");
}

TEST(WaitUntilReady, FailedEndsTheWaitWithTheReason) {
  const TemporaryFolder folder;
  const auto agent = RpcServer::Listen(
      folder / "a", AgentSaying({Json{{"state", "failed"}, {"error", "volume too small"}}}));
  ASSERT_TRUE(agent.has_value());
  ReadinessOptions options;
  options.agent_socket = folder / "a";
  const auto health = WaitUntilReady(options);
  ASSERT_TRUE(health.error() == Errc::kRefused);
  EXPECT_EQ(health.error().message(), "volume too small");
}

TEST(WaitUntilReady, DeadFilerAndSilenceEndIt) {
  const TemporaryFolder folder;
  ReadinessOptions options;
  options.agent_socket = folder / "none";
  options.deadline = milliseconds(100);
  EXPECT_TRUE(WaitUntilReady(options).error() == Errc::kTimedOut);
  options.deadline = milliseconds(60'000);
  options.is_alive = [] { return false; };
  EXPECT_TRUE(WaitUntilReady(options).error() == Errc::kDeviceGone);
}

}  // namespace
}  // namespace filer::guest
