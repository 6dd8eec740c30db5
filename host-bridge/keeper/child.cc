#include "host-bridge/keeper/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace filer::bridge {
namespace {

// In the new process: only calls that are safe after a fork of a program with threads.
[[noreturn]] void BecomeProgram(int program, char* const* arguments, pid_t parent) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // it ended before we asked to be told
  const int empty = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (empty >= 0) ::dup2(empty, STDIN_FILENO);
  ::fexecve(program, arguments, environ);
  ::_exit(127);
}

}  // namespace

Result<UniqueFd> OpenProgram(const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return Error(Errc::kInvalidArgument, fmt::format("{}: give the program's whole path", path));
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.is_open() && errno == ENOENT) return Error(Errc::kNotFound, path + ": no such program");
  if (!fd.is_open()) return Error::System(errno, path + ": cannot open the program");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return Error::System(errno, "fstat on " + path);
  if (!S_ISREG(status.st_mode) || (status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) {
    return Error(Errc::kInvalidArgument, path + ": is no program that can be started");
  }
  return fd;
}

Child::~Child() {
  if (!is_running()) return;
  Signal(SIGKILL);
  static_cast<void>(WaitEnd(std::chrono::milliseconds(-1)));
}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(killed_by_, other.killed_by_);
  std::swap(exit_status_, other.exit_status_);
  return *this;
}

Result<Child> Child::Start(const UniqueFd& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = arguments;
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t self = ::getpid();
  Child child;
  child.pid_ = ::fork();
  if (child.pid_ < 0) return Error::System(errno, "fork");
  if (child.pid_ == 0) BecomeProgram(program.get(), pointers.data(), self);
  child.pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.pidfd_.is_open()) {
    const int error = errno;
    ::kill(child.pid_, SIGKILL);
    ::waitpid(child.pid_, nullptr, 0);
    return Error::System(error, "pidfd_open");
  }
  return child;
}

void Child::Signal(int number) const {
  // Until it is reaped the pid is its own.
  if (is_running()) ::kill(pid_, number);
}

bool Child::WaitEnd(std::chrono::milliseconds timeout) {
  if (!is_running()) return true;
  pollfd wait{pidfd_.get(), POLLIN, 0};
  int count = -1;
  do {
    count = ::poll(&wait, 1, static_cast<int>(timeout.count()));
  } while (count < 0 && errno == EINTR && timeout.count() < 0);
  if (count <= 0) return false;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  killed_by_ = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  pidfd_.Reset();
  return true;
}

std::string Child::EndText() const {
  if (was_killed()) {
    return fmt::format("was killed by signal {} ({})", killed_by_, ::strsignal(killed_by_));
  }
  return fmt::format("ended with status {}", exit_status_);
}

}  // namespace filer::bridge
