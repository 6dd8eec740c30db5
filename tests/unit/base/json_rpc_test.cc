#include "base/json_rpc.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace filer {
namespace {

using namespace std::chrono_literals;

RpcMethods Methods() {
  RpcMethods methods;
  methods["echo"] = [](const Json& params) -> Result<Json> { return params; };
  methods["fail"] = [](const Json&) -> Result<Json> { return Error(Errc::kNoSpace, "disk full"); };
  return methods;
}

TEST(RpcDispatch, AnswersWhatIsNoRequestWithAnError) {
  const auto methods = Methods();
  for (const std::string line :
       {"", "x", "[]", "{}", R"({"method":1})", R"({"id":1,"method":"echo","params":3})"}) {
    const Json answer = Json::parse(RpcDispatch(methods, line));
    EXPECT_TRUE(answer.contains("error")) << line;
  }
}

TEST(RpcDispatch, RefusesDeepNesting) {
  const std::string line(100'000, '[');
  EXPECT_NE(RpcDispatch(Methods(), line).find("too large"), std::string::npos);
}

TEST(RpcDispatch, TellsTheCauseOfAnError) {
  const auto cause = [](const std::string& line) {
    return Json::parse(RpcDispatch(Methods(), line))["error"]["data"]["cause"].get<std::string>();
  };
  EXPECT_EQ(cause(R"({"id":1,"method":"fail"})"), "no space left");
  EXPECT_EQ(cause(R"({"id":1,"method":"none"})"), "not supported");
  EXPECT_EQ(cause(R"({"id":1,"method":"echo","params":3})"), "invalid argument");
  EXPECT_EQ(cause("x"), "invalid argument");
}

TEST(RpcDispatch, AnswersWhoeverCalledAMethodThatThrows) {
  RpcMethods methods;
  methods["throw"] = [](const Json& params) -> Result<Json> { return params.at("missing"); };
  const Json answer = Json::parse(RpcDispatch(methods, R"({"id":7,"method":"throw"})"));
  EXPECT_EQ(answer["id"], 7);
  EXPECT_TRUE(answer.contains("error"));
}

TEST(RpcDispatch, RefusesToSayMoreThanALineHolds) {
  RpcMethods methods;
  methods["much"] = [](const Json&) -> Result<Json> {
    return Json{{"text", std::string(kRpcLineBytesMax, 'x')}};
  };
  const std::string answer = RpcDispatch(methods, R"({"id":7,"method":"much"})");
  EXPECT_LT(answer.size(), 1000u);
  EXPECT_NE(answer.find("too long"), std::string::npos);
}

TEST(RpcServer, ServesSeveralClientsAndReportsErrors) {
  const std::string path = testing::TempDir() + "rpc_" + std::to_string(::getpid());
  auto server = RpcServer::Listen(path, Methods());
  ASSERT_TRUE(server.has_value());
  auto first = RpcClient::Connect(path);
  auto second = RpcClient::Connect(path);
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(first.value().Call("echo", {{"a", 1}}, 2s).value()["a"], 1);
  const auto failed = second.value().Call("fail", Json::object(), 2s);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().message(), "disk full");
  EXPECT_EQ(RpcServer::Listen(path, Methods()).error(), Errc::kBusy);
  server.value().reset();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(RpcClient::Connect(path).error(), Errc::kNotRunning);
}

}  // namespace
}  // namespace filer
