// One NFS NULL call over TCP (RFC 5531): the smallest thing that only an NFS server answers.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <random>

#include "base/endian.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::guest {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint32_t kLastFragment = 0x80000000;
constexpr std::uint32_t kNfsProgram = 100003;
constexpr std::size_t kCallWords = 10;
constexpr std::size_t kReplyWords = 6;  // xid, REPLY, MSG_ACCEPTED, verifier (2), SUCCESS

int LeftMs(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

Result<void> WaitFor(int socket, short events, Clock::time_point deadline) {
  pollfd ready{socket, events, 0};
  const int count = ::poll(&ready, 1, LeftMs(deadline));
  if (count > 0) return Ok();
  if (count < 0 && errno != EINTR) return Error::System(errno, "poll");
  return Error(Errc::kTimedOut, "NFS does not answer yet");
}

Result<UniqueFd> ConnectTcp(const std::string& address, std::uint16_t port,
                            Clock::time_point deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) {
    return Error(Errc::kInvalidArgument, address + ": no address");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(list, &::freeaddrinfo);
  UniqueFd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  if (::connect(socket.get(), list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return Error(Errc::kNotRunning, "nobody listens on port " + std::to_string(port));
  }
  FILER_TRY(WaitFor(socket.get(), POLLOUT, deadline));
  int failure = 0;
  socklen_t size = sizeof(failure);
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &failure, &size);
  if (failure != 0)
    return Error(Errc::kNotRunning, "nobody listens on port " + std::to_string(port));
  return socket;
}

}  // namespace

Result<void> ProbeNfs(const std::string& address, std::uint16_t port, std::uint32_t version,
                      milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  const UniqueFd socket = FILER_TRY(ConnectTcp(address, port, deadline));
  const std::uint32_t xid = std::random_device{}();
  // mark, xid, CALL, RPC version 2, program, version, NULL, no credentials, no verifier
  std::array<std::uint32_t, 1 + kCallWords> call = {
      kLastFragment | kCallWords * 4, xid, 0, 2, kNfsProgram, version, 0, 0, 0, 0, 0};
  for (std::uint32_t& word : call) word = htonl(word);
  if (::send(socket.get(), call.data(), sizeof(call), MSG_NOSIGNAL) != sizeof(call)) {
    return Error(Errc::kNotRunning, "NFS closed the connection");
  }
  std::array<std::uint32_t, 1 + kReplyWords> reply{};
  std::size_t got = 0;
  while (got < sizeof(reply)) {
    FILER_TRY(WaitFor(socket.get(), POLLIN, deadline));
    const ssize_t size =
        ::recv(socket.get(), reinterpret_cast<char*>(reply.data()) + got, sizeof(reply) - got, 0);
    if (size == 0) return Error(Errc::kNotRunning, "NFS closed the connection");
    if (size < 0 && errno != EAGAIN && errno != EINTR) {
      return Error(Errc::kNotRunning, "NFS reset the connection");
    }
    if (size > 0) got += static_cast<std::size_t>(size);
  }
  for (std::uint32_t& word : reply) word = ntohl(word);
  // An RPC server that does not know this version answers with another accept state.
  const bool is_success = reply[1] == xid && reply[2] == 1 && reply[3] == 0 && reply[4] == 0 &&
                          reply[5] == 0 && reply[6] == 0;
  if (is_success) return Ok();
  return Error(Errc::kProtocol, "port " + std::to_string(port) + ": what answers is no NFS server");
}

}  // namespace filer::guest
