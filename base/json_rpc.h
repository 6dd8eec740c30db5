// json_rpc.h: JSON-RPC 2.0, one object per line, over a stream socket. The control channel of the
// bridge daemon, and of the guest's agent (over virtio-serial, which the launcher sees as a Unix
// socket).
//
// The peer is not trusted: a line is at most kRpcLineBytesMax, nesting is bounded, and what does
// not parse is answered with an error object (or closes the connection when it never ends).
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace filer {

using Json = nlohmann::json;

inline constexpr std::size_t kRpcLineBytesMax = 1 << 20;

// Methods by name. A handler gets `params` (an object, possibly empty), returns the result object,
// and runs on the thread that called RpcServer::Run or RpcDispatch; it must not block for long.
using RpcHandler = std::function<Result<Json>(const Json& params)>;
using RpcMethods = std::map<std::string, RpcHandler, std::less<>>;

// One request line in, one response line (without newline) out; never fails, never throws. Empty
// for a notification.
std::string RpcDispatch(const RpcMethods& methods, const std::string& line) noexcept;

// Serves `methods` on a Unix stream socket (mode 0600), any number of clients, on its own thread
// (Boost.Asio).
class RpcServer {
 public:
  // Replaces a stale socket file. Errors: kSystem, kBusy if somebody answers on it.
  static Result<std::unique_ptr<RpcServer>> Listen(const std::string& socket_path,
                                                   RpcMethods methods);
  ~RpcServer();  // stops the thread, closes all connections, removes the socket file

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A blocking client for commands. One thread at a time.
class RpcClient {
 public:
  // Errors: kNotRunning if nobody listens; kSystem.
  static Result<RpcClient> Connect(const std::string& socket_path);
  // Takes an open descriptor (for the agent's character device).
  explicit RpcClient(UniqueFd socket);

  // Sends a request, waits for its response (other lines are skipped). Errors: kTimedOut;
  // kDeviceGone when the peer closes; kProtocol for what is no JSON-RPC; kRefused with the peer's
  // message when it answered an error object.
  Result<Json> Call(const std::string& method, const Json& params,
                    std::chrono::milliseconds timeout);

 private:
  UniqueFd socket_;
  std::string received_;
  // Starts anywhere: on the guest's channel the late answer to another client may still come.
  std::int64_t next_id_;
};

}  // namespace filer
