// wait_set.h: the descriptors a poller sleeps on, each with what it means. An entry is removed
// before its descriptor is closed: a peer may hold the same open file, and epoll would go on
// reporting it. Threads: its poller.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace filer::bridge {

enum class WaitKind : std::uint8_t { kWake, kListener, kSession, kKick, kBackend, kClosed };

struct WaitTag {
  WaitKind kind = WaitKind::kWake;
  std::uint32_t volume_index = 0;
  std::uint32_t queue_index = 0;

  std::uint64_t Pack() const {
    return std::uint64_t{static_cast<std::uint8_t>(kind)} << 56 |
           std::uint64_t{volume_index} << 16 | queue_index;
  }
  static WaitTag Unpack(std::uint64_t packed) {
    return {static_cast<WaitKind>(packed >> 56),
            static_cast<std::uint32_t>(packed >> 16 & 0xffffffff),
            static_cast<std::uint32_t>(packed & 0xffff)};
  }
};

class WaitSet {
 public:
  // Errors: kSystem.
  static Result<WaitSet> Create();
  // Wakes for reading, level-triggered. Errors: kSystem (a descriptor that cannot be waited on).
  Result<void> Add(int fd, WaitTag tag);
  void Remove(int fd);
  int fd() const { return epoll_.get(); }

 private:
  explicit WaitSet(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  UniqueFd epoll_;
};

}  // namespace filer::bridge
