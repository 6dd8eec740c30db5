// QMP against a scripted peer that is slow, rude, or gone.
#include "filer-guest/launcher/qmp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>

#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kLong{20'000};
constexpr const char* kGreeting = R"({"QMP": {"version": {}, "capabilities": []}})"
                                  "\n";

// Accepts one client; for each line it gets, sends the next of `answers`, in which %ID stands for
// the request's id. An empty answer is silence; after the last one it hangs up.
class FakeQemu {
 public:
  FakeQemu(const std::string& path, std::string greeting, std::vector<std::string> answers)
      : greeting_(std::move(greeting)), answers_(std::move(answers)) {
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeQemu() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  void Serve() {
    const UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
    if (!client.is_open()) return;
    Send(client.get(), greeting_);
    std::string input;
    for (std::string answer : answers_) {
      std::size_t end = 0;
      while ((end = input.find('\n')) == std::string::npos) {
        char buffer[4096];
        const ssize_t got = ::recv(client.get(), buffer, sizeof(buffer), 0);
        if (got <= 0) return;
        input.append(buffer, static_cast<std::size_t>(got));
      }
      const Json request = Json::parse(input.substr(0, end));
      input.erase(0, end + 1);
      const std::size_t at = answer.find("%ID");
      if (at != std::string::npos) answer.replace(at, 3, request["id"].dump());
      if (answer.empty()) {
        char buffer[16];
        ::recv(client.get(), buffer, sizeof(buffer), 0);  // until the client gives up
      }
      Send(client.get(), answer);
    }
  }
  static void Send(int socket, const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t done = ::send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (done <= 0) return;
      sent += static_cast<std::size_t>(done);
    }
  }

  std::string greeting_;
  std::vector<std::string> answers_;
  UniqueFd listener_;
  std::thread thread_;
};

constexpr const char* kReady = "{\"return\": {}, \"id\": %ID}\n";

TEST(Qmp, SkipsEventsAndStrangersAnswers) {
  const TemporaryFolder folder;
  const FakeQemu qemu(folder / "q", kGreeting,
                      {kReady,
                       "{\"event\": \"RESET\"}\n{\"return\": 5, \"id\": -1}\n"
                       "{\"return\": [{\"thread-id\": 77}, {\"thread-id\": 78}], \"id\": %ID}\n"});
  auto client = QmpClient::Connect(folder / "q", kLong);
  ASSERT_TRUE(client.has_value()) << client.error().message();
  const auto threads = CpuThreads(*client.value(), kLong);
  ASSERT_TRUE(threads.has_value());
  EXPECT_THAT(threads.value(), testing::ElementsAre(77, 78));
}

TEST(Qmp, ErrorCarriesQemusWords) {
  const TemporaryFolder folder;
  const FakeQemu qemu(folder / "q", kGreeting,
                      {kReady, "{\"error\": {\"desc\": \"no such thing\"}, \"id\": %ID}\n"});
  auto client = QmpClient::Connect(folder / "q", kLong);
  ASSERT_TRUE(client.has_value());
  const auto refused = client.value()->Execute("x", Json::object(), kLong);
  ASSERT_TRUE(refused.error() == Errc::kRefused);
  EXPECT_THAT(refused.error().message(), HasSubstr("no such thing"));
}

TEST(Qmp, SilenceTimesOutAndTheClientIsDoneThen) {
  const TemporaryFolder folder;
  const FakeQemu qemu(folder / "q", kGreeting, {kReady, ""});
  auto client = QmpClient::Connect(folder / "q", kLong);
  ASSERT_TRUE(client.has_value());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(client.value()->Execute("x", Json::object(), milliseconds(100)).error() ==
              Errc::kTimedOut);
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(10'000));
  EXPECT_TRUE(client.value()->Execute("x", Json::object(), kLong).error() == Errc::kDeviceGone);
}

TEST(Qmp, HangUpIsSaid) {
  const TemporaryFolder folder;
  const FakeQemu qemu(folder / "q", kGreeting, {kReady});
  auto client = QmpClient::Connect(folder / "q", kLong);
  ASSERT_TRUE(client.has_value());
  EXPECT_TRUE(client.value()->Execute("x", Json::object(), kLong).error() == Errc::kDeviceGone);
}

TEST(Qmp, EndlessLineIsCutOff) {
  const TemporaryFolder folder;
  const FakeQemu qemu(folder / "q", std::string(3 << 20, 'x'), {});
  const auto client = QmpClient::Connect(folder / "q", kLong);
  EXPECT_TRUE(client.error() == Errc::kProtocol);
}

TEST(Qmp, WrongGreetingsAndNobody) {
  const TemporaryFolder folder;
  EXPECT_TRUE(QmpClient::Connect(folder / "none", kLong).error() == Errc::kNotRunning);
  int index = 0;
  for (const char* greeting : {"{}\n", "[]\n", "hello\n", "{\"QMP\"\n"}) {
    const std::string path = folder / ("g" + std::to_string(index++));
    const FakeQemu qemu(path, greeting, {});
    EXPECT_TRUE(QmpClient::Connect(path, kLong).error() == Errc::kProtocol) << greeting;
  }
}

}  // namespace
}  // namespace filer::guest
