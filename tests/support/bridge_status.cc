// bridge-status SOCKET [METHOD PARAMETERS]: prints what a bridge daemon answers, as JSON; without a
// method its `status`.
#include <cstdio>

#include "base/json_rpc.h"

int main(int count, char** words) {
  if (count != 2 && count != 4) return 2;
  const char* method = count == 4 ? words[2] : "status";
  const auto params = filer::Json::parse(count == 4 ? words[3] : "{}", nullptr, false);
  auto client = filer::RpcClient::Connect(words[1]);
  if (!client) {
    std::fprintf(stderr, "bridge-status: %s\n", client.error().message().c_str());
    return 1;
  }
  const auto status = client.value().Call(method, params, std::chrono::seconds(5));
  if (!status) {
    std::fprintf(stderr, "bridge-status: %s\n", status.error().message().c_str());
    return 1;
  }
  std::printf("%s\n", status.value().dump().c_str());
  return 0;
}
