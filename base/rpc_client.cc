#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "base/json_nesting.h"
#include "base/json_rpc.h"
#include "base/socket_address.h"

namespace filer {
namespace {

constexpr timeval kConnectPatience{.tv_sec = 1, .tv_usec = 0};

std::string TextOf(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The cause that an RpcServer names by its text.
Errc CauseOf(const std::string& text) {
  for (int code = 1; code <= static_cast<int>(Errc::kSystem); ++code) {
    if (ErrcText(static_cast<Errc>(code)) == text) return static_cast<Errc>(code);
  }
  return Errc::kRefused;
}

Error PeersError(const Json& response) {
  const Json error = response.value("error", Json::object());
  std::string message = TextOf(error, "message");
  if (message.empty()) message = "failed";
  const Json data = error.is_object() ? error.value("data", Json::object()) : Json::object();
  return Error(CauseOf(TextOf(data, "cause")), std::move(message));
}

}  // namespace

Result<RpcClient> RpcClient::Connect(const std::string& socket_path) {
  const sockaddr_un address = FILER_TRY(SocketAddressOf(socket_path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  // For connect: it would wait for ever where a process that hangs has a full backlog.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kConnectPatience, sizeof(kConnectPatience));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error(Errc::kNotRunning, socket_path + ": nobody listens");
    }
    if (errno == EAGAIN) return Error(Errc::kTimedOut, socket_path + ": nobody takes the call");
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
      const std::string answer = received_.substr(0, end);
      received_.erase(0, end + 1);
      // Whoever prints it would descend as deep.
      if (NestsTooDeep(answer)) return Error(Errc::kProtocol, "answer nests too deep");
      const Json response = Json::parse(answer, nullptr, false);
      if (!response.is_object() || response.value("id", Json()) != Json(id)) continue;
      if (response.contains("result")) return response["result"];
      return PeersError(response);
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
      const ssize_t done = ::send(socket_.get(), line.data() + sent, line.size() - sent,
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
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
