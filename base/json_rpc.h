// json_rpc.h: JSON-RPC 2.0, one object per line, over a stream socket. The control channel of the
// bridge daemon, of the engine, and of the guest's agent (over virtio-serial, which the launcher
// sees as a Unix socket).
//
// The peer is not trusted, at either end: a line is at most kRpcLineBytesMax, nesting is bounded,
// and what does not parse is answered with an error object (or closes the connection when it never
// ends). An error object says in `data.cause` which Errc it was, so that a command ends with the
// right exit code.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>

#include "base/file.h"
#include "base/result.h"

namespace filer {

using Json = nlohmann::json;

inline constexpr std::size_t kRpcLineBytesMax = 1 << 20;

// A handler gets `params` (an object, possibly empty) and returns the result object.
using RpcHandler = std::function<Result<Json>(const Json& params)>;

struct RpcMethod {
  RpcMethod() = default;
  template <typename Handler>
  requires std::is_invocable_r_v<Result<Json>, Handler&, const Json&> RpcMethod(
      Handler handler_in)  // NOLINT(google-explicit-constructor): methods["x"] = [...]
      : handler(std::move(handler_in)) {}

  RpcHandler handler;
  // False: it answers from memory, on the thread that reads the requests of all clients. True: it
  // may wait, for a disk or for somebody else, and runs on a thread of RpcWorkers.
  bool may_wait = false;
};
RpcMethod RpcWaiting(RpcHandler handler);
using RpcMethods = std::map<std::string, RpcMethod, std::less<>>;

// A request line, taken apart: a call of `method`, or, when that is null, what to answer instead.
// Lives no longer than the methods.
struct RpcRequest {
  const RpcMethod* method = nullptr;
  Json id;
  Json params;
  std::string refusal;
};
// These never fail and never throw. A response has no newline; it is empty for a notification.
RpcRequest RpcParse(const RpcMethods& methods, const std::string& line) noexcept;
std::string RpcRun(const RpcRequest& request) noexcept;
std::string RpcFailure(const RpcRequest& request, const Error& error) noexcept;
// RpcParse and RpcRun, on this thread whatever the method.
std::string RpcDispatch(const RpcMethods& methods, const std::string& line) noexcept;

// Threads for calls that may wait, started with the first one.
class RpcWorkers {
 public:
  RpcWorkers(std::size_t thread_count_max, std::size_t call_count_max);
  ~RpcWorkers();  // drops the calls that have not begun, waits for those that have

  // `answer` gets the response, on a worker; or before this returns, the error kBusy, when
  // `call_count_max` calls run or wait already. It must not throw.
  void Run(RpcRequest request, std::function<void(std::string response)> answer);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct RpcLimits {
  std::size_t connection_count_max = 64;  // whoever comes later is closed at once
  std::size_t waiting_threads = 4;        // for methods that may wait
  std::size_t waiting_calls_max = 16;     // below connection_count_max: others are still answered
  // A client that says nothing, or does not take its answer, for so long is closed; 0: never.
  std::chrono::milliseconds idle_max{0};
  std::chrono::milliseconds write_max{10'000};
};

// Serves `methods` on a Unix stream socket (mode 0600), on a thread of its own (Boost.Asio) and
// those for methods that may wait. A client has one call at a time; further ones wait in its
// socket.
class RpcServer {
 public:
  // Replaces a stale socket file. Errors: kSystem, kBusy if somebody answers on it.
  static Result<std::unique_ptr<RpcServer>> Listen(const std::string& socket_path,
                                                   RpcMethods methods, RpcLimits limits = {});
  // Stops the threads (a method that runs is waited for), closes all connections, removes the
  // socket file.
  ~RpcServer();

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A blocking client for commands. One thread at a time.
class RpcClient {
 public:
  // Waits a second at most. Errors: kNotRunning if nobody listens; kTimedOut if nobody takes
  // connections; kSystem.
  static Result<RpcClient> Connect(const std::string& socket_path);
  // Takes an open descriptor (for the agent's character device).
  explicit RpcClient(UniqueFd socket);

  // Sends a request, waits for its response (other lines are skipped). Errors: kTimedOut;
  // kDeviceGone when the peer closes; kProtocol for what is no JSON-RPC; when it answered an error
  // object, its message with its cause: kNotSupported when there is no such method, kRefused for
  // one without a cause.
  Result<Json> Call(const std::string& method, const Json& params,
                    std::chrono::milliseconds timeout);

 private:
  UniqueFd socket_;
  std::string received_;
  // Starts anywhere: on the guest's channel the late answer to another client may still come.
  std::int64_t next_id_;
};

}  // namespace filer
