// port-holder PORT: listens on 127.0.0.1:PORT until it is ended. For tests of a port that is in
// use.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

int main(int count, char** words) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<std::uint16_t>(count == 2 ? std::atoi(words[1]) : 0));
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (count != 2 || ::bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0 ||
      ::listen(listener, 1) != 0) {
    std::perror("port-holder");
    return 1;
  }
  ::pause();
  return 0;
}
