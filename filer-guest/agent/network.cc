#include "filer-guest/agent/network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/file.h"

namespace filer::agent {
namespace {

constexpr std::string_view kWord = "nearmetal.net=";

bool IsAddress(const std::string& text) {
  in_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}

void SetAddress(sockaddr& target, in_addr_t address) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = address;
  std::memcpy(&target, &in, sizeof(in));
}

in_addr_t Netmask(unsigned prefix) {
  return prefix == 0 ? 0 : htonl(~std::uint32_t{0} << (32 - prefix));
}

Result<UniqueFd> ControlSocket() {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  return socket;
}

ifreq RequestFor(const std::string& interface) {
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

Result<void> Control(int socket, unsigned long operation, void* request, const std::string& what) {
  if (::ioctl(socket, operation, request) != 0) return Error::System(errno, what);
  return Ok();
}

Result<void> SetUp(int socket, const std::string& interface) {
  ifreq request = RequestFor(interface);
  FILER_TRY(Control(socket, SIOCGIFFLAGS, &request, interface + ": read flags"));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_RUNNING);
  return Control(socket, SIOCSIFFLAGS, &request, interface + ": bring up");
}

}  // namespace

Result<std::optional<NetworkPlan>> ParseNetworkPlan(std::string_view kernel_command_line) {
  std::size_t start = kernel_command_line.find(kWord);
  if (start == std::string_view::npos) return std::optional<NetworkPlan>();
  start += kWord.size();
  const std::size_t end = kernel_command_line.find_first_of(" \n", start);
  const std::string text(kernel_command_line.substr(start, end - start));
  NetworkPlan plan;
  if (text == "dhcp") {
    plan.is_dhcp = true;
    return std::optional(plan);
  }
  const Error bad(Errc::kInvalidArgument,
                  std::string(kWord) + text + ": expected ADDRESS/PREFIX[,GATEWAY] or dhcp");
  const std::size_t slash = text.find('/');
  const std::size_t comma = text.find(',');
  if (slash == std::string::npos || (comma != std::string::npos && comma < slash)) return bad;
  plan.address = text.substr(0, slash);
  const std::string prefix =
      text.substr(slash + 1, comma == std::string::npos ? comma : comma - slash - 1);
  if (comma != std::string::npos) plan.gateway = text.substr(comma + 1);
  const auto parsed = std::from_chars(prefix.data(), prefix.data() + prefix.size(), plan.prefix);
  const bool is_number = parsed.ec == std::errc() && parsed.ptr == prefix.data() + prefix.size();
  if (!is_number || plan.prefix > 32 || !IsAddress(plan.address)) return bad;
  if (comma != std::string::npos && !IsAddress(plan.gateway)) return bad;
  return std::optional(plan);
}

Result<void> BringUpLoopback() {
  const UniqueFd socket = FILER_TRY(ControlSocket());
  return SetUp(socket.get(), "lo");
}

Result<std::string> WaitForInterface(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  do {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net", error)) {
      // Only interfaces of a device: tunnels and the like come from modules.
      if (std::filesystem::exists(entry.path() / "device", error)) return entry.path().filename();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  } while (std::chrono::steady_clock::now() < deadline);
  return Error(Errc::kTimedOut, "no network interface appeared");
}

Result<void> BringUpInterface(const std::string& interface, const NetworkPlan& plan) {
  const UniqueFd socket = FILER_TRY(ControlSocket());
  const in_addr_t address = ::inet_addr(plan.address.c_str());
  ifreq request = RequestFor(interface);
  SetAddress(request.ifr_addr, address);
  FILER_TRY(Control(socket.get(), SIOCSIFADDR, &request, interface + ": set address"));
  SetAddress(request.ifr_netmask, Netmask(plan.prefix));
  FILER_TRY(Control(socket.get(), SIOCSIFNETMASK, &request, interface + ": set netmask"));
  FILER_TRY(SetUp(socket.get(), interface));
  if (plan.gateway.empty()) return Ok();
  rtentry route{};
  SetAddress(route.rt_dst, 0);
  SetAddress(route.rt_genmask, 0);
  SetAddress(route.rt_gateway, ::inet_addr(plan.gateway.c_str()));
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  if (::ioctl(socket.get(), SIOCADDRT, &route) != 0 && errno != EEXIST) {
    return Error::System(errno, "route to " + plan.gateway);
  }
  return Ok();
}

}  // namespace filer::agent
