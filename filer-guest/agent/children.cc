#include "filer-guest/agent/children.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "base/file.h"

namespace filer::agent {
namespace {

constexpr std::chrono::milliseconds kPollInterval{10};
constexpr std::chrono::milliseconds kKillWait{5'000};
constexpr std::chrono::milliseconds kFamilyWait{1'000};
constexpr std::size_t kInputBytesMax = 4096;

struct Launch {
  char* const* arguments;
  char* const* environment;
  int input;
  int log;
  int report;
  bool outlives_agent;
};

// Only async-signal-safe calls: runs between fork and exec. Reports errno through `report`.
[[noreturn]] void BecomeProgram(const Launch& launch) {
  ::setsid();
  if (!launch.outlives_agent) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::dup2(launch.input, 0);
  ::dup2(launch.log, 1);
  ::dup2(launch.log, 2);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execvpe(launch.arguments[0], launch.arguments, launch.environment);
  const int failure = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(launch.report, &failure, sizeof(failure));
  ::_exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// A readable descriptor that holds `input`.
Result<UniqueFd> InputFor(const std::string& input) {
  if (input.empty()) {
    UniqueFd null_file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null_file.is_open()) return Error::System(errno, "open /dev/null");
    return null_file;
  }
  if (input.size() > kInputBytesMax) return Error(Errc::kTooBig, "input of a child");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  if (::write(writer.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size())) {
    return Error::System(errno, "write to a pipe");
  }
  return reader;
}

// Forks and waits until the program runs or could not be started.
Result<pid_t> Launched(const ChildSpec& spec, bool outlives_agent) {
  std::vector<std::string> arguments = spec.arguments;
  std::vector<std::string> environment = spec.environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const UniqueFd input = FILER_TRY(InputFor(spec.input));
  const UniqueFd log(
      ::open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!log.is_open()) return Error::System(errno, "open " + spec.log_path);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  const UniqueFd report_reader(ends[0]);
  UniqueFd report_writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return Error::System(errno, "fork");
  if (pid == 0) {
    BecomeProgram({argument_pointers.data(), environment_pointers.data(), input.get(), log.get(),
                   report_writer.get(), outlives_agent});
  }
  report_writer.Reset();
  int failure = 0;
  if (::read(report_reader.get(), &failure, sizeof(failure)) == sizeof(failure)) {
    ::waitpid(pid, nullptr, 0);
    if (failure == ENOENT) return Error(Errc::kNotFound, arguments[0] + ": no such program");
    return Error::System(failure, "start " + arguments[0]);
  }
  return pid;
}

std::string EndingText(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Result<pid_t> Children::Start(const ChildSpec& spec) {
  Reap();
  // Held across the fork: nobody may reap the child before it is entered here.
  const MutexLock lock(mutex_);
  const auto found = children_.find(spec.name);
  if (found != children_.end() && found->second.is_running) {
    return Error(Errc::kBusy, spec.name + " runs already");
  }
  const pid_t pid = FILER_TRY(Launched(spec, outlives_agent_));
  children_[spec.name] = ChildState{pid, true, {}, spec.log_path};
  return pid;
}

void Children::Reap() {
  const MutexLock lock(mutex_);
  int status = 0;
  if (::getpid() == 1) {
    // Orphans come to us too; ours are found by their pid.
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
         pid = ::waitpid(-1, &status, WNOHANG)) {
      for (auto& [name, child] : children_) {
        if (child.pid == pid && child.is_running) {
          child.is_running = false;
          child.ending = EndingText(status);
        }
      }
    }
    return;
  }
  for (auto& [name, child] : children_) {
    if (child.is_running && ::waitpid(child.pid, &status, WNOHANG) == child.pid) {
      child.is_running = false;
      child.ending = EndingText(status);
    }
  }
}

std::optional<ChildState> Children::Find(const std::string& name) {
  Reap();
  const MutexLock lock(mutex_);
  const auto found = children_.find(name);
  if (found == children_.end()) return std::nullopt;
  return found->second;
}

bool Children::WaitForEnd(const std::string& name, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const std::optional<ChildState> child = Find(name);
    if (!child || !child->is_running) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
}

Result<void> Children::Run(const ChildSpec& spec, std::chrono::milliseconds timeout) {
  FILER_TRY(Start(spec));
  if (!WaitForEnd(spec.name, timeout)) {
    Stop(spec.name, std::chrono::milliseconds(0));
    return Error(Errc::kTimedOut, spec.name + ": not done in time");
  }
  const std::string ending = Find(spec.name)->ending;
  if (ending == "exit code 0") return Ok();
  return Error(Errc::kRefused, spec.name + ": " + ending + ": " + LogTail(spec.name, 400));
}

bool Children::Stop(const std::string& name, std::chrono::milliseconds grace) {
  const std::optional<ChildState> child = Find(name);
  if (!child || !child->is_running) return true;
  ::kill(child->pid, SIGTERM);
  const bool is_clean = WaitForEnd(name, grace);
  // Whatever is left of its session: smbd's per-client processes, or the whole of it.
  ::kill(-child->pid, SIGKILL);
  if (!is_clean) WaitForEnd(name, kKillWait);
  WaitForFamily(child->pid);
  return is_clean;
}

void Children::WaitForFamily(pid_t group) {
  // A killed process still holds its files for a moment. Bounded: where nobody reaps orphans, the
  // group keeps its zombies.
  const auto deadline = std::chrono::steady_clock::now() + kFamilyWait;
  while (::kill(-group, 0) == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPollInterval);
    Reap();
  }
}

Result<void> Children::Signal(const std::string& name, int signal) {
  const std::optional<ChildState> child = Find(name);
  if (!child || !child->is_running) return Error(Errc::kNotRunning, name + " does not run");
  if (::kill(child->pid, signal) != 0) return Error::System(errno, "signal to " + name);
  return Ok();
}

std::string Children::LogTail(const std::string& name, std::size_t bytes_max) {
  const std::optional<ChildState> child = Find(name);
  return child ? FileTail(child->log_path, bytes_max) : std::string();
}

void Children::BoundLogs() {
  const MutexLock lock(mutex_);
  for (const auto& [name, child] : children_) {
    struct stat info {};
    if (::stat(child.log_path.c_str(), &info) == 0 &&
        info.st_size > static_cast<off_t>(kChildLogBytesMax)) {
      // Writers append, so they go on at the new end.
      [[maybe_unused]] const int ignored = ::truncate(child.log_path.c_str(), 0);
    }
  }
}

std::string FileTail(const std::string& path, std::size_t bytes_max) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return {};
  const off_t end = ::lseek(file.get(), 0, SEEK_END);
  const off_t start = end > static_cast<off_t>(bytes_max) ? end - static_cast<off_t>(bytes_max) : 0;
  std::string text(static_cast<std::size_t>(end - start), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), start);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (start > 0) {
    const std::size_t newline = text.find('\n');
    if (newline != std::string::npos && newline + 1 < text.size()) text.erase(0, newline + 1);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace filer::agent
