#include "base/json_rpc.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <istream>
#include <random>
#include <thread>

#include "base/log.h"

namespace filer {
namespace {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;

constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr int kParseError = -32700;
constexpr int kInvalidRequest = -32600;
constexpr int kMethodNotFound = -32601;
constexpr int kHandlerFailed = -32000;
constexpr int kNestingMax = 64;

std::string Failure(const Json& id, int code, const std::string& message) {
  return Json{{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Depth of brackets outside strings: bounds the parser's recursion before it starts.
bool NestsTooDeep(const std::string& line) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kNestingMax) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(Errc::kTooBig,
                 path + ": socket path longer than 107 bytes; choose a shorter folder");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Local::socket socket, const RpcMethods& methods)
      : socket_(std::move(socket)), methods_(methods) {}

  void ReadNext() {
    asio::async_read_until(
        socket_, input_, '\n',
        [self = shared_from_this()](boost::system::error_code error, std::size_t) {
          if (!error) self->Answer();
        });
  }

 private:
  void Answer() {
    std::istream stream(&input_);
    std::string line;
    std::getline(stream, line);
    output_ = RpcDispatch(methods_, line);
    if (output_.empty()) return ReadNext();
    output_ += '\n';
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                        if (!error) self->ReadNext();
                      });
  }

  Local::socket socket_;
  const RpcMethods& methods_;
  asio::streambuf input_{kRpcLineBytesMax};
  std::string output_;
};

}  // namespace

std::string RpcDispatch(const RpcMethods& methods, const std::string& line) noexcept try {
  if (line.size() > kRpcLineBytesMax || NestsTooDeep(line)) {
    return Failure(nullptr, kInvalidRequest, "request too large");
  }
  const Json request = Json::parse(line, nullptr, false);
  if (request.is_discarded()) return Failure(nullptr, kParseError, "not JSON");
  if (!request.is_object() || !request.contains("method") || !request["method"].is_string()) {
    return Failure(nullptr, kInvalidRequest, "no method");
  }
  const Json id = request.value("id", Json());
  const Json params = request.value("params", Json::object());
  if (!params.is_object()) return Failure(id, kInvalidRequest, "params must be an object");
  const auto method = methods.find(request["method"].get<std::string>());
  if (method == methods.end()) return Failure(id, kMethodNotFound, "no such method");
  Result<Json> result = method->second(params);
  if (id.is_null()) return {};
  if (!result) return Failure(id, kHandlerFailed, result.error().message());
  return Json{{"jsonrpc", "2.0"}, {"id", id}, {"result", result.value()}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
} catch (const std::exception& error) {
  return R"({"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}})";
}

struct RpcServer::State {
  State(std::string path_in, RpcMethods methods_in)
      : path(std::move(path_in)), methods(std::move(methods_in)), acceptor(context), pause(context) {}

  void AcceptNext() {
    acceptor.async_accept([this](boost::system::error_code error, Local::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) {
        std::make_shared<Session>(std::move(socket), methods)->ReadNext();
        AcceptNext();
        return;
      }
      // No descriptor is free: whoever waits stays in the backlog, so do not spin on it.
      pause.expires_after(kAcceptPause);
      pause.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) AcceptNext();
      });
    });
  }

  std::string path;
  RpcMethods methods;
  asio::io_context context;
  Local::acceptor acceptor;
  asio::steady_timer pause;
  std::thread thread;
};

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

RpcServer::~RpcServer() {
  state_->context.stop();
  state_->thread.join();
  ::unlink(state_->path.c_str());
}

Result<std::unique_ptr<RpcServer>> RpcServer::Listen(const std::string& socket_path,
                                                     RpcMethods methods) {
  FILER_TRY(AddressOf(socket_path));
  if (RpcClient::Connect(socket_path).has_value()) {
    return Error(Errc::kBusy, socket_path + ": another process answers on this socket");
  }
  ::unlink(socket_path.c_str());
  auto state = std::make_unique<State>(socket_path, std::move(methods));
  boost::system::error_code error;
  const Local::endpoint endpoint(socket_path);
  state->acceptor.open(endpoint.protocol(), error);
  if (!error) state->acceptor.bind(endpoint, error);
  if (!error) ::chmod(socket_path.c_str(), 0600);
  if (!error) state->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Error::System(error.value(), "listen on " + socket_path);
  state->AcceptNext();
  state->thread = std::thread([raw = state.get()] { raw->context.run(); });
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(state)));
}

Result<RpcClient> RpcClient::Connect(const std::string& socket_path) {
  const sockaddr_un address = FILER_TRY(AddressOf(socket_path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error(Errc::kNotRunning, socket_path + ": nobody listens");
    }
    return Error::System(errno, "connect " + socket_path);
  }
  return RpcClient(std::move(socket));
}

RpcClient::RpcClient(UniqueFd socket)
    : socket_(std::move(socket)), next_id_(std::int64_t{std::random_device{}()} << 16) {}

Result<Json> RpcClient::Call(const std::string& method, const Json& params,
                             std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const std::int64_t id = next_id_++;
  const std::string line =
      Json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}}.dump(
          -1, ' ', false, Json::error_handler_t::replace) +
      "\n";
  std::size_t sent = 0;
  while (true) {
    const std::size_t end = received_.find('\n');
    if (end != std::string::npos) {
      const Json response = Json::parse(received_.substr(0, end), nullptr, false);
      received_.erase(0, end + 1);
      if (!response.is_object() || response.value("id", Json()) != Json(id)) continue;
      if (response.contains("result")) return response["result"];
      const Json error = response.value("error", Json::object());
      return Error(Errc::kRefused, error.is_object() ? error.value("message", "failed") : "failed");
    }
    if (received_.size() > kRpcLineBytesMax) return Error(Errc::kProtocol, "answer too long");
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Error(Errc::kTimedOut, method + ": no answer in time");
    const bool is_sending = sent < line.size();
    pollfd ready{socket_.get(), static_cast<short>(is_sending ? POLLIN | POLLOUT : POLLIN), 0};
    const int count = ::poll(&ready, 1, static_cast<int>(left.count()));
    if (count < 0 && errno != EINTR) return Error::System(errno, "poll");
    if (count <= 0) continue;
    if (is_sending && (ready.revents & POLLOUT) != 0) {
      const ssize_t done =
          ::send(socket_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
      if (done > 0) sent += static_cast<std::size_t>(done);
      if (done < 0 && errno != EAGAIN && errno != EINTR) {
        return Error(Errc::kDeviceGone, "connection closed");
      }
    }
    if ((ready.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      char buffer[16384];
      const ssize_t got = ::read(socket_.get(), buffer, sizeof(buffer));
      if (got == 0) return Error(Errc::kDeviceGone, "connection closed");
      if (got < 0 && errno != EAGAIN && errno != EINTR) return Error::System(errno, "read");
      if (got > 0) received_.append(buffer, static_cast<std::size_t>(got));
    }
  }
}

}  // namespace filer
