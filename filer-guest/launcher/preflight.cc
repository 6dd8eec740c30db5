#include "filer-guest/launcher/preflight.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <sstream>

namespace filer::guest {
namespace {

constexpr std::uint64_t kQemuOverheadMb = 256;  // its own heap, translated code

bool IsRegularFile(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool IsSocket(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
}

Result<void> CheckNumbers(const GuestOptions& options) {
  if (options.memory_mb < kGuestMemoryMbMin) {
    return Error(Errc::kInvalidArgument,
                 "guest memory: at least " + std::to_string(kGuestMemoryMbMin) + " MiB are needed");
  }
  if (options.cpus == 0 || options.cpus > kGuestCpusMax) {
    return Error(Errc::kInvalidArgument, "guest processors: 1 to 64");
  }
  if (options.disks.size() > kGuestDisksMax) {
    return Error(Errc::kInvalidArgument, "a guest takes at most 8 volumes");
  }
  struct stat info {};
  if (::stat(options.run_dir.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Error(Errc::kNotFound, options.run_dir + ": no such folder");
  }
  if (options.run_dir.size() + sizeof("/agent.sock") > sizeof(sockaddr_un::sun_path)) {
    return Error(Errc::kTooBig, options.run_dir + ": too long for sockets; choose a shorter home");
  }
  return Ok();
}

Result<void> CheckImage(const std::string& image_dir) {
  for (const char* name : {"kernel", "initrd", "root.squashfs", "manifest.json"}) {
    const std::string path = image_dir + "/" + name;
    if (!IsRegularFile(path)) {
      return Error(Errc::kNotFound,
                   path + ": missing; build the guest's image with filer-guest/image/build-image");
    }
  }
  return Ok();
}

Result<void> CheckMemory(const GuestOptions& options) {
  if (options.use_huge_pages && HasFreeHugePages(options.memory_mb)) return Ok();
  const std::uint64_t available = FILER_TRY(AvailableMb(FILER_TRY(ReadWholeFile("/proc/meminfo"))));
  const std::uint64_t needed = options.memory_mb + kQemuOverheadMb;
  if (available >= needed) return Ok();
  return Error(Errc::kNoMemory, "the guest needs " + std::to_string(needed) + " MiB, " +
                                    std::to_string(available) +
                                    " are free; lower memory_mb in [guest]");
}

}  // namespace

Result<std::string> FindQemu(const std::string& program) {
  const Error missing(Errc::kNotFound,
                      program +
                          ": not installed; ./filer installs it, or: apt-get install -t "
                          "bookworm-backports qemu-system-x86");
  if (program.find('/') != std::string::npos) {
    if (::access(program.c_str(), X_OK) == 0) return program;
    return missing;
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/" + program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return missing;
}

Result<void> CheckPortIsFree(const std::string& address, std::uint16_t port) {
  const std::string name = address + ":" + std::to_string(port);
  if (port == 0) return Error(Errc::kInvalidArgument, name + ": no port");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* list = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) {
    return Error(Errc::kInvalidArgument, address + ": no address of this machine");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(list, &::freeaddrinfo);
  const UniqueFd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  // As QEMU does it: connections in TIME_WAIT do not count.
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(socket.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      ::listen(socket.get(), 1) != 0) {
    if (errno == EADDRINUSE) {
      return Error(Errc::kBusy, name + " is in use by another program; choose another port");
    }
    return Error::System(errno, "listen on " + name);
  }
  return Ok();
}

Result<std::uint64_t> AvailableMb(const std::string& meminfo) {
  constexpr std::string_view kKey = "MemAvailable:";
  std::size_t at = meminfo.find(kKey);
  if (at == std::string::npos) return Error(Errc::kCorrupt, "/proc/meminfo: no MemAvailable");
  at = meminfo.find_first_not_of(' ', at + kKey.size());
  if (at == std::string::npos) return Error(Errc::kCorrupt, "/proc/meminfo: no MemAvailable");
  std::uint64_t kilobytes = 0;
  const char* end = meminfo.data() + meminfo.size();
  if (std::from_chars(meminfo.data() + at, end, kilobytes).ec != std::errc()) {
    return Error(Errc::kCorrupt, "/proc/meminfo: no MemAvailable");
  }
  return kilobytes / 1024;
}

bool HasFreeHugePages(std::uint32_t megabytes, const std::string& sysfs) {
  auto text = ReadWholeFile(sysfs + "/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  if (!text) return false;
  return std::strtoull(text.value().c_str(), nullptr, 10) >= (std::uint64_t{megabytes} + 1) / 2;
}

Result<void> CheckBeforeStart(const GuestOptions& options) {
  FILER_TRY(CheckNumbers(options));
  FILER_TRY(FindQemu(options.qemu_program));
  FILER_TRY(CheckImage(options.image_dir));
  for (const PortForward& forward : options.network.forwards) {
    FILER_TRY(CheckPortIsFree(forward.host_address, forward.host_port));
  }
  for (const GuestDisk& disk : options.disks) {
    if (!IsSocket(disk.socket_path)) {
      return Error(Errc::kNotRunning, disk.socket_path + ": no bridge serves this volume");
    }
  }
  return CheckMemory(options);
}

}  // namespace filer::guest
