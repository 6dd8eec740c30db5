// The agent's channel seen from the host, and waiting for the services behind it.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "filer-guest/launcher/launcher.h"

namespace filer::guest {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kHealthTimeout{5'000};
constexpr milliseconds kNfsTimeout{2'000};
constexpr milliseconds kPoll{50};
constexpr std::uint32_t kNfsVersion = 4;

Result<UniqueFd> ConnectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Error(Errc::kTooBig, path + ": too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error(Errc::kNotRunning, path + ": nobody listens");
    }
    return Error::System(errno, "connect " + path);
  }
  return socket;
}

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

Result<Json> CallAgent(const std::string& agent_socket, const std::string& method,
                       const Json& params, milliseconds timeout) {
  UniqueFd socket = FILER_TRY(ConnectTo(agent_socket));
  // An empty line ends whatever a client before us had left unfinished.
  if (::send(socket.get(), "\n", 1, MSG_NOSIGNAL) != 1) {
    return Error(Errc::kDeviceGone, agent_socket + ": closed");
  }
  RpcClient client(std::move(socket));
  return client.Call(method, params, timeout);
}

Result<Json> WaitUntilReady(const ReadinessOptions& options) {
  const auto deadline = Clock::now() + options.deadline;
  std::string last = "no answer yet";
  while (Clock::now() < deadline) {
    if (options.is_alive && !options.is_alive()) {
      return Error(Errc::kDeviceGone, "the filer ended while it was starting");
    }
    auto health = CallAgent(options.agent_socket, "health", Json::object(), kHealthTimeout);
    if (!health) {
      last = health.error().message();
    } else {
      const std::string state = TextOf(health.value(), "state");
      if (state == "failed") return Error(Errc::kRefused, TextOf(health.value(), "error"));
      last = "the services are " + (state.empty() ? std::string("silent") : state);
      if (state == "ready") {
        if (options.nfs_port == 0) return health;
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
        auto nfs = ProbeNfs(options.nfs_address, options.nfs_port, kNfsVersion,
                            std::clamp(left, milliseconds(1), kNfsTimeout));
        if (nfs) return health;
        last = nfs.error().message();
      }
    }
    std::this_thread::sleep_for(kPoll);
  }
  return Error(Errc::kTimedOut, "not ready in time: " + last);
}

}  // namespace filer::guest
