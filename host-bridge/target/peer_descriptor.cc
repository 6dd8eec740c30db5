#include "host-bridge/target/peer_descriptor.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/socket.h>

namespace filer::bridge {
namespace {

// io_uring takes an eventfd to ring and nothing else, and does not call into the file to find out.
// /proc/self/fd would tell as well, but a confined daemon has no /proc.
class EventProbe {
 public:
  EventProbe() : is_open_(io_uring_queue_init(1, &ring_, 0) == 0) {}
  EventProbe(const EventProbe&) = delete;
  EventProbe& operator=(const EventProbe&) = delete;
  ~EventProbe() {
    if (is_open_) io_uring_queue_exit(&ring_);
  }
  bool Takes(int fd) {
    if (!is_open_ || io_uring_register_eventfd(&ring_, fd) != 0) return false;
    return io_uring_unregister_eventfd(&ring_) == 0;
  }

 private:
  io_uring ring_{};
  bool is_open_;
};

bool IsEventFd(int fd) {
  static thread_local EventProbe probe;
  return probe.Takes(fd);
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
