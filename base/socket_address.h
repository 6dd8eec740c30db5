// socket_address.h: the address of a Unix socket.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "base/result.h"

namespace filer {

// Errors: kTooBig.
inline Result<sockaddr_un> SocketAddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(Errc::kTooBig,
                 path + ": socket path longer than 107 bytes; choose a shorter folder");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace filer
