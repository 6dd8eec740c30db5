#include "workloads/bench/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "base/file.h"

namespace filer::bench {
namespace {

constexpr auto kLook = std::chrono::milliseconds(5);
constexpr auto kStartPatience = std::chrono::seconds(10);
constexpr auto kStopPatience = std::chrono::seconds(5);

// In the child, between fork and exec: calls that are safe there only. The exit code says how far
// it came.
[[noreturn]] void Become(char* const* words, int log_fd, int core, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::setpgid(0, 0);  // ^C is for us, who end it when its requests are done
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (core >= 0 && core < CPU_SETSIZE) {
    CPU_SET(static_cast<std::size_t>(core), &cores);
    if (::sched_setaffinity(0, sizeof(cores), &cores) != 0) ::_exit(126);
  }
  ::dup2(log_fd, STDOUT_FILENO);
  ::dup2(log_fd, STDERR_FILENO);
  ::execvp(words[0], words);
  ::_exit(127);
}

bool IsListening(pid_t pid, const std::string& path) {
  // A socket that is bound is listed with its path, in the network namespace of its process;
  // connecting would count as a client.
  const auto sockets = ReadWholeFile(fmt::format("/proc/{}/net/unix", pid), 64 << 20);
  if (!sockets.has_value()) return false;
  const std::string& text = sockets.assume_value();
  const auto at = text.find(" " + path + "\n");
  if (at == std::string::npos) return false;
  // A line is: address, references, protocol, flags, type, state, inode, path. A socket is bound
  // before it listens: the flag __SO_ACCEPTCON tells.
  const auto begin = text.rfind('\n', at) + 1;
  return text.substr(begin, at - begin).find(" 00010000 ") != std::string::npos;
}

bool WaitForEnd(pid_t pid, std::chrono::steady_clock::duration patience) {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < patience) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0) return true;
    std::this_thread::sleep_for(kLook);
  }
  return false;
}

}  // namespace

std::string FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    return ::access(name.c_str(), X_OK) == 0 ? name : std::string();
  }
  const char* path = std::getenv("PATH");
  std::string rest = path != nullptr ? path : "/usr/bin:/bin";
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    const std::string candidate = rest.substr(0, colon) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return "";
}

Result<Server> Server::Start(const ServerSpec& spec) {
  if (FindProgram(spec.arguments[0]).empty()) {
    return Error(Errc::kNotFound, spec.arguments[0] + ": no such program");
  }
  const UniqueFd log(
      ::open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.is_open()) return Error::System(errno, spec.log_path);
  std::vector<char*> words;
  for (const std::string& word : spec.arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return Error::System(errno, "fork");
  if (pid == 0) Become(words.data(), log.get(), spec.core, parent);
  Server server(pid, spec.log_path);
  const auto begin = std::chrono::steady_clock::now();
  while (!IsListening(pid, spec.socket_path)) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) == pid) {
      server.pid_ = 0;
      return Error(Errc::kNotRunning,
                   fmt::format("{} ended at its start: {}", spec.arguments[0], server.LastWords()));
    }
    if (std::chrono::steady_clock::now() - begin > kStartPatience) {
      return Error(Errc::kTimedOut,
                   fmt::format("{} does not listen on {} after 10 s: {}", spec.arguments[0],
                               spec.socket_path, server.LastWords()));
    }
    std::this_thread::sleep_for(kLook);
  }
  return server;
}

std::string Server::LastWords() const {
  const auto text = ReadWholeFile(log_path_);
  if (!text.has_value() || text.assume_value().empty()) return "it said nothing";
  std::string words = text.assume_value();
  while (!words.empty() && words.back() == '\n') words.pop_back();
  const auto line = words.rfind('\n');
  return line == std::string::npos ? words : words.substr(line + 1);
}

Server::Server(Server&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), log_path_(std::move(other.log_path_)) {}
Server& Server::operator=(Server&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(log_path_, other.log_path_);
  return *this;
}
Server::~Server() { Stop(); }

void Server::Stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  if (!WaitForEnd(pid_, kStopPatience)) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_ = 0;
}

}  // namespace filer::bench
