// stalled_client_test.cc: clients that ask for much and never take an answer. Others must not
// notice, and the server must still end in time.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>

#include "tests/integration/nfs/client.h"
#include "tests/integration/nfs/ganesha_server.h"

namespace filer::test {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kFileMiB = 160;  // more than the server's buffer pool
constexpr int kReadsPerConnection = 400;
constexpr int kConnections = 4;
constexpr auto kPatience = std::chrono::seconds(20);
constexpr int kTerminateSeconds = 20;

template <typename T>
T Need(Result<T> result) {
  if (!result.has_value()) {
    ADD_FAILURE() << result.assume_error().message();
    std::abort();
  }
  return std::move(result).assume_value();
}

void Ignore(int, nfs_context*, void*, void*) {}

// Sends READs of 1 MiB all over the file, and reads nothing back.
void AskAndNeverListen(Client& client, const std::string& path, int seed) {
  nfs_context* nfs = *client;
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open(nfs, path.c_str(), O_RDONLY, &file), 0) << client.error();
  const int small = 4096;
  ::setsockopt(nfs_get_fd(nfs), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  for (int i = 0; i < kReadsPerConnection; ++i) {
    const std::uint64_t offset = static_cast<std::uint64_t>(i * 79 + seed * 31) % kFileMiB * kMiB;
    ASSERT_EQ(nfs_pread_async(nfs, file, offset, kMiB, Ignore, nullptr), 0);
  }
  while ((nfs_which_events(nfs) & POLLOUT) != 0) {
    pollfd writable{nfs_get_fd(nfs), POLLOUT, 0};
    ASSERT_EQ(::poll(&writable, 1, 30'000), 1) << "the server takes no requests";
    ASSERT_EQ(nfs_service(nfs, POLLOUT), 0) << client.error();
  }
}

TEST(StalledClient, LeavesTheOthersTheirMemory) {
  const auto server = Need(GaneshaServer::Create());
  const auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  const auto good = Need(Client::Mount(server->Url(3)));
  ASSERT_EQ(good->WriteFile("/big", Pattern(kFileMiB * kMiB, 1), kMiB), 0) << good->error();

  std::vector<std::unique_ptr<Client>> stalled;
  for (int i = 0; i < kConnections; ++i) {
    stalled.push_back(Need(Client::Mount(server->Url(3))));
    AskAndNeverListen(*stalled.back(), "/big", i);
  }

  const auto before = std::chrono::steady_clock::now();
  nfs_set_timeout(**good, static_cast<int>(std::chrono::milliseconds(kPatience).count()));
  const std::string content = Pattern(20 * kMiB, 2);
  ASSERT_EQ(good->WriteStable("/other", content), 0) << good->error();
  EXPECT_TRUE(Need(good->ReadFile("/other")) == content);
  EXPECT_LT(std::chrono::steady_clock::now() - before, kPatience);

  const Json status = Need(server->Status());
  const Json& replies = status["read_replies"];
  EXPECT_GT(replies["pinned_bytes"].get<std::uint64_t>(), 0U) << replies.dump();
  EXPECT_LE(replies["pinned_bytes"].get<std::uint64_t>(),
            replies["pinned_bytes_max"].get<std::uint64_t>());
  EXPECT_LE(replies["copied_bytes"].get<std::uint64_t>(),
            replies["copied_bytes_max"].get<std::uint64_t>());
  EXPECT_GT(replies["refused"].get<std::uint64_t>(), 0U) << replies.dump();

  // They are still connected.
  const auto exit_code = server->Terminate(kTerminateSeconds);
  ASSERT_TRUE(exit_code.has_value()) << exit_code.assume_error().message();
  EXPECT_EQ(exit_code.assume_value(), 0) << server->Log();
  const auto report = Need(server->Check());
  EXPECT_TRUE(report.findings.empty());
  if (testing::Test::HasFailure()) std::cerr << server->Log();
}

TEST(StalledClient, GivesAllBackWhenItGoes) {
  const auto server = Need(GaneshaServer::Create());
  const auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  {
    const auto client = Need(Client::Mount(server->Url(3)));
    ASSERT_EQ(client->WriteFile("/big", Pattern(kFileMiB * kMiB, 1), kMiB), 0) << client->error();
    AskAndNeverListen(*client, "/big", 0);
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  Json replies;
  do {
    replies = Need(server->Status())["read_replies"];
  } while ((replies["pinned_bytes"] != 0U || replies["copied_bytes"] != 0U) &&
           std::chrono::steady_clock::now() < deadline);
  EXPECT_EQ(replies["pinned_bytes"].get<std::uint64_t>(), 0U);
  EXPECT_EQ(replies["copied_bytes"].get<std::uint64_t>(), 0U);
  const auto exit_code = server->Terminate(kTerminateSeconds);
  ASSERT_TRUE(exit_code.has_value()) << exit_code.assume_error().message();
  EXPECT_EQ(exit_code.assume_value(), 0);
}

}  // namespace
}  // namespace filer::test
