#include "host-bridge/target/peer_descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

namespace filer::bridge {
namespace {

// The name is the kernel's; the paths of files begin with a slash.
bool IsEventFd(int fd) {
  char target[64] = {};
  const auto link = fmt::format("/proc/self/fd/{}", fd);
  if (::readlink(link.c_str(), target, sizeof(target) - 1) < 0) return false;
  return std::string_view(target) == "anon_inode:[eventfd]";
}

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

}  // namespace

bool IsOfKind(int fd, DescriptorKind kind) {
  switch (kind) {
    case DescriptorKind::kNone:
      return false;
    case DescriptorKind::kEvent:
      return IsEventFd(fd);
    case DescriptorKind::kMemory:
      return ::fcntl(fd, F_GET_SEALS) >= 0;  // shmem and hugetlbfs alone have seals, set or not
    case DescriptorKind::kStream:
      return SocketOption(fd, SO_DOMAIN) == AF_UNIX && SocketOption(fd, SO_TYPE) == SOCK_STREAM;
  }
  return false;
}

std::string_view DescriptorKindText(DescriptorKind kind) {
  switch (kind) {
    case DescriptorKind::kNone:
      break;
    case DescriptorKind::kEvent:
      return "eventfd";
    case DescriptorKind::kMemory:
      return "memfd or file in tmpfs or hugetlbfs";
    case DescriptorKind::kStream:
      return "Unix stream socket";
  }
  return "descriptor";
}

}  // namespace filer::bridge
