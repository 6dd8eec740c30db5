#include "host-bridge/target/wait_set.h"

#include <sys/epoll.h>

#include <cerrno>

namespace filer::bridge {

Result<WaitSet> WaitSet::Create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.is_open()) return Error::System(errno, "epoll_create1");
  return WaitSet(std::move(epoll));
}

Result<void> WaitSet::Add(int fd, WaitTag tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag.Pack();
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::System(errno, "epoll_ctl");
  }
  return Ok();
}

void WaitSet::Remove(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

}  // namespace filer::bridge
