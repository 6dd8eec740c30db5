// bridge-status SOCKET: prints the `status` of a bridge daemon as JSON.
#include <cstdio>

#include "base/json_rpc.h"

int main(int count, char** words) {
  if (count != 2) return 2;
  auto client = filer::RpcClient::Connect(words[1]);
  if (!client) {
    std::fprintf(stderr, "bridge-status: %s\n", client.error().message().c_str());
    return 1;
  }
  const auto status = client.value().Call("status", filer::Json::object(), std::chrono::seconds(5));
  if (!status) {
    std::fprintf(stderr, "bridge-status: %s\n", status.error().message().c_str());
    return 1;
  }
  std::printf("%s\n", status.value().dump().c_str());
  return 0;
}
