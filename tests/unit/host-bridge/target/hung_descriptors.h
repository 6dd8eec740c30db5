// hung_descriptors.h: descriptors with which a peer can make who has them wait: a socket whose
// close waits for somebody who does not read, and a file of a FUSE server that does not answer.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <span>
#include <string>
#include <thread>

#include "base/assert.h"
#include "base/file.h"

namespace filer::bridge {

inline void SendBytes(int socket, std::span<const std::byte> bytes, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  }
  FILER_ASSERT(::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

// Closing the last descriptor of it waits up to half a minute, or until Release.
class LingeringSocket {
 public:
  LingeringSocket() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    FILER_ASSERT(::bind(listener.get(), generic, length) == 0 && ::listen(listener.get(), 1) == 0);
    FILER_ASSERT(::getsockname(listener.get(), generic, &length) == 0);
    lingering_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    FILER_ASSERT(::connect(lingering_.get(), generic, length) == 0);
    deaf_ = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const char bytes[4096] = {};
    while (::send(lingering_.get(), bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
    const linger wait{1, 30};
    ::setsockopt(lingering_.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof(wait));
  }
  ~LingeringSocket() { Release(); }
  UniqueFd Take() { return std::move(lingering_); }
  void Release() { deaf_.Reset(); }  // resets the connection

 private:
  UniqueFd deaf_, lingering_;
};

// A file, opened, of a FUSE server that answers nothing after that.
class HungFile {
 public:
  explicit HungFile(const std::string& path) : path_(path) {
    const UniqueFd point(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    device_ = UniqueFd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const auto options =
        "fd=" + std::to_string(device_.get()) + ",rootmode=100644,user_id=0,group_id=0";
    is_mounted_ = ::mount("hung", path.c_str(), "fuse", 0, options.c_str()) == 0;
    if (!is_mounted_) return;
    server_ = std::thread([this] { Serve(); });
    file_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  }
  ~HungFile() {
    Release();
    is_over_ = true;
    if (server_.joinable()) server_.join();
  }
  int fd() const { return file_.get(); }  // ours must stay open: closing it asks the server
  void Release() {
    if (!is_mounted_) return;
    is_mounted_ = false;
    ::umount2(path_.c_str(), MNT_FORCE);  // aborts the connection: whoever waits gets an error
    file_.Reset();
    ::umount2(path_.c_str(), MNT_DETACH);  // it was busy before
  }

 private:
  template <typename T>
  void Answer(const fuse_in_header& request, const T& body) {
    struct {
      fuse_out_header header;
      T body;
    } answer{{sizeof(answer), 0, request.unique}, body};
    (void)!::write(device_.get(), &answer, sizeof(answer));
  }
  void Serve() {
    alignas(fuse_in_header) char buffer[1 << 18];
    while (!is_over_) {
      pollfd wait{device_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 50) != 1) continue;
      if (::read(device_.get(), buffer, sizeof(buffer)) < 0) return;
      const auto& request = *reinterpret_cast<const fuse_in_header*>(buffer);
      if (request.opcode == FUSE_INIT) {
        fuse_init_out init{};
        init.major = FUSE_KERNEL_VERSION;
        init.minor = FUSE_KERNEL_MINOR_VERSION;
        init.max_write = 4096;
        Answer(request, init);
      } else if (request.opcode == FUSE_OPEN) {
        fuse_open_out open{};
        open.fh = 1;
        Answer(request, open);
      }
    }
  }

  std::string path_;
  UniqueFd device_, file_;
  bool is_mounted_ = false;
  std::atomic<bool> is_over_ = false;
  std::thread server_;
};

}  // namespace filer::bridge
