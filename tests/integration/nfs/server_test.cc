// server_test.cc: the server's life: what it says when something is missing, a clean end, and what
// is there after a SIGKILL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "tests/integration/nfs/client.h"
#include "tests/integration/nfs/ganesha_server.h"

namespace filer::test {
namespace {

constexpr int kTerminateSeconds = 60;

void ExpectSound(const GaneshaServer& server) {
  const auto report = server.Check();
  ASSERT_TRUE(report.has_value()) << report.assume_error().message();
  for (const auto& finding : report.assume_value().findings) {
    ADD_FAILURE() << finding.what << " at " << finding.where << " " << finding.path;
  }
}

std::unique_ptr<GaneshaServer> MakeServer() {
  auto server = GaneshaServer::Create();
  EXPECT_TRUE(server.has_value()) << server.assume_error().message();
  return std::move(server).assume_value();
}

std::unique_ptr<Client> MountOrNull(const GaneshaServer& server, int version,
                                    const std::string& pseudo = "/share") {
  auto client = Client::Mount(server.Url(version, pseudo));
  if (!client.has_value()) return nullptr;
  return std::move(client).assume_value();
}

// One writer of files until its server is gone; a name is noted only when the server said the file
// is stable.
struct Writer {
  int version = 3;
  std::vector<std::string> acknowledged;

  void Run(const GaneshaServer& server, int number) {
    auto client = MountOrNull(server, version);
    ASSERT_NE(client, nullptr);
    for (int i = 0;; ++i) {
      const std::string name = "/w" + std::to_string(number) + "-" + std::to_string(i);
      const std::string content = Content(name);
      if (client->WriteStable(name, content) != 0) break;
      acknowledged.push_back(name);
    }
    // Not destroyed: libnfs 5.0.2 would now call back requests whose waiting stack frames are gone.
    (void)client.release();
  }
  static std::string Content(const std::string& name) {
    const std::size_t seed = std::hash<std::string>{}(name);
    return Pattern(seed % 200'000, seed);
  }
};

TEST(Server, EndsCleanlyOnSigterm) {
  const auto server = MakeServer();
  auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  {
    const auto client = MountOrNull(*server, 4);
    ASSERT_NE(client, nullptr);
    ASSERT_EQ(client->WriteFile("/unstable", Pattern(300'000, 4)),
              0);  // never committed by the client
    const auto exit_code = server->Terminate(kTerminateSeconds);
    ASSERT_TRUE(exit_code.has_value()) << exit_code.assume_error().message();
    EXPECT_EQ(exit_code.assume_value(), 0) << server->Log();
  }
  EXPECT_THAT(server->Log(), testing::HasSubstr("volume unmounted"));
  EXPECT_NE(::access((server->folder() + "/status.sock").c_str(), F_OK), 0);
  ExpectSound(*server);
  started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  const auto status = server->Status();
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status.assume_value()["counters"]["recovered_groups"].get<std::uint64_t>(), 0U)
      << "a clean end leaves nothing to recover";
  const auto client = MountOrNull(*server, 3);
  ASSERT_NE(client, nullptr);
  const auto content = client->ReadFile("/unstable");
  ASSERT_TRUE(content.has_value());
  EXPECT_TRUE(content.assume_value() == Pattern(300'000, 4));
}

TEST(Server, KeepsWhatItAcknowledgedOverSigkill) {
  const auto server = MakeServer();
  std::mt19937 random(20'261'122);
  std::vector<std::string> all;
  for (int round = 0; round < 4; ++round) {
    const auto started = server->Start();
    ASSERT_TRUE(started.has_value()) << started.assume_error().message();
    std::vector<Writer> writers(2);
    writers[1].version = 4;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < writers.size(); ++i) {
      threads.emplace_back([&, i] { writers[i].Run(*server, round * 10 + static_cast<int>(i)); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1500 + random() % 1500));
    server->KillHard();
    for (std::thread& thread : threads) thread.join();
    ExpectSound(*server);
    for (const Writer& writer : writers) {
      EXPECT_FALSE(writer.acknowledged.empty()) << "nothing was written before the kill";
      all.insert(all.end(), writer.acknowledged.begin(), writer.acknowledged.end());
    }
  }
  const auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  const auto client = MountOrNull(*server, 3);
  ASSERT_NE(client, nullptr);
  for (const std::string& name : all) {
    const auto content = client->ReadFile(name);
    ASSERT_TRUE(content.has_value()) << name << ": " << content.assume_error().message();
    EXPECT_TRUE(content.assume_value() == Writer::Content(name)) << name;
  }
}

TEST(Server, SaysThatAnExportsFolderIsMissingAndServesItOnceMade) {
  const auto server = MakeServer();
  server->SetExports({ServerExport{}, ServerExport{2, "/team", "/team", ""}});
  auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  EXPECT_NE(MountOrNull(*server, 3), nullptr) << "the other export is served all the same";
  const auto export_two = [&] {
    const auto status = server->Status();
    for (const Json& one : status.assume_value()["exports"]) {
      if (one["id"] == 2) return one;
    }
    return Json();
  };
  const Json missing = export_two();
  ASSERT_TRUE(missing.is_object());
  EXPECT_FALSE(missing["ok"].get<bool>());
  EXPECT_THAT(missing["error"].get<std::string>(), testing::HasSubstr("/team"));

  const auto made = server->Call("mkdir", {{"path", "/team"}, {"mode", 0750}});
  ASSERT_TRUE(made.has_value()) << made.assume_error().message();
  EXPECT_TRUE(made.assume_value()["created"].get<bool>());
  const auto again = server->Call("mkdir", {{"path", "/team"}, {"mode", 0750}});
  ASSERT_TRUE(again.has_value());
  EXPECT_FALSE(again.assume_value()["created"].get<bool>());

  ASSERT_TRUE(server->Reload().has_value());
  for (int i = 0; i < 200 && !export_two().value("ok", false); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_TRUE(export_two()["ok"].get<bool>()) << server->Log();
  const auto client = MountOrNull(*server, 4, "/team");
  ASSERT_NE(client, nullptr) << server->Log();
  EXPECT_EQ(client->WriteFile("/f", "team"), 0);
  // The whole volume shows it, too, and the two exports cannot disagree.
  const auto whole = MountOrNull(*server, 4);
  ASSERT_NE(whole, nullptr);
  EXPECT_EQ(whole->Stat("/team").nfs_mode & 07777, 0750U);
  ASSERT_EQ(whole->WriteFile("/team/f", "longer than before"), 0);
  EXPECT_EQ(client->Stat("/f").nfs_size, 18U);
}

TEST(Server, RefusesBadParameters) {
  const auto server = MakeServer();
  const auto started = server->Start();
  ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  for (const Json& params :
       {Json::object(), Json{{"path", 7}}, Json{{"path", "relative"}}, Json{{"path", "/a/../b"}},
        Json{{"path", "/no/parent"}}, Json{{"path", "/x"}, {"mode", 010000}},
        Json{{"path", "/x"}, {"mode", "rwx"}}}) {
    EXPECT_FALSE(server->Call("mkdir", params).has_value()) << params.dump();
  }
}

TEST(Server, TellsWhyThereIsNoVolume) {
  const auto server = MakeServer();
  ASSERT_EQ(::unlink((server->folder() + "/volume").c_str()), 0);
  (void)server->Start();
  if (!server->IsRunning()) {
    EXPECT_THAT(server->Log(), testing::HasSubstr("/volume"));
    return;
  }
  const auto status = server->Status();
  ASSERT_TRUE(status.has_value());
  EXPECT_FALSE(status.assume_value()["healthy"].get<bool>());
  EXPECT_THAT(status.assume_value()["error"].get<std::string>(), testing::HasSubstr("/volume"));
  server->KillHard();
}

}  // namespace
}  // namespace filer::test
