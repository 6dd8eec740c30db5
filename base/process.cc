#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "base/file.h"

namespace filer {
namespace {

constexpr int kFlagsField = 9;  // proc(5)
constexpr int kStartTimeField = 22;
constexpr std::uint64_t kExitingFlag = 0x4;  // PF_EXITING, include/linux/sched.h

// State letter and start time, from the text behind the last ')' (the name may hold anything).
struct StatFields {
  char state = '?';
  std::uint64_t flags = 0;
  std::uint64_t start_ticks = 0;
};

Result<StatFields> ReadStat(pid_t pid) {
  const std::string text = FILER_TRY(ReadWholeFile("/proc/" + std::to_string(pid) + "/stat"));
  const std::size_t close = text.rfind(')');
  if (close == std::string::npos || close + 2 >= text.size()) return Errc::kNotFound;
  StatFields fields;
  fields.state = text[close + 2];
  std::size_t at = close + 2;
  for (int field = 3; field < kStartTimeField; ++field) {
    if (field == kFlagsField) fields.flags = std::strtoull(text.c_str() + at, nullptr, 10);
    at = text.find(' ', at);
    if (at == std::string::npos) return Errc::kNotFound;
    ++at;
  }
  fields.start_ticks = std::strtoull(text.c_str() + at, nullptr, 10);
  return fields;
}

// Only async-signal-safe calls: runs between fork and exec. Reports errno through `report`.
[[noreturn]] void BecomeProgram(char* const* arguments, char* const* environment, int log_fd,
                                int report) {
  ::setsid();
  const int null_fd = ::open("/dev/null", O_RDWR);
  ::dup2(null_fd, 0);
  ::dup2(log_fd >= 0 ? log_fd : null_fd, 1);
  ::dup2(log_fd >= 0 ? log_fd : null_fd, 2);
  // Everything above stderr is marked to close on exec, `report` too: the parent reads its end as
  // success.
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execvpe(arguments[0], arguments, environment);
  const int failure = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(report, &failure, sizeof(failure));
  ::_exit(127);
}

// In the child: until its starter knows it, or is gone.
void WaitForGo(int go) {
  char word = 0;
  ssize_t count = 0;
  do {
    count = ::read(go, &word, sizeof(word));
  } while (count < 0 && errno == EINTR);
  if (count != sizeof(word)) ::_exit(127);
}

// Also one that is on its way out, and may hold files, memory and ports until it is gone.
bool IsThere(const ProcessId& process) {
  if (process.pid <= 0) return false;
  const auto current = IdentifyProcess(process.pid);
  return current.has_value() && current.value() == process;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!added.contains(text.substr(0, text.find('=')))) merged.push_back(text);
  }
  for (const auto& [name, value] : added) merged.push_back(name + "=" + value);
  return merged;
}

// Ends a child whose output is awaited when `stop` turns true.
class ProgramStopper {
 public:
  ProgramStopper(pid_t child, const std::atomic<bool>* stop) : child_(child), stop_(stop) {}
  bool has_stopped() const { return has_stopped_; }

  // True when there is something to read, or the end; false now and then before.
  bool WaitForOutput(int fd) {
    constexpr int kLookMs = 50;
    if (stop_ == nullptr) return true;
    if (stop_->load(std::memory_order_relaxed)) Stop();  // a wish: nothing comes with it
    pollfd wait{fd, POLLIN, 0};
    return ::poll(&wait, 1, kLookMs) > 0;
  }

 private:
  // The child is not reaped yet, so its id is still its own.
  void Stop() {
    const auto now = std::chrono::steady_clock::now();
    if (!has_stopped_) {
      has_stopped_ = true;
      kill_at_ = now + std::chrono::seconds(1);
      ::kill(child_, SIGTERM);
    } else if (now > kill_at_) {
      ::kill(child_, SIGKILL);
    }
  }

  pid_t child_;
  const std::atomic<bool>* stop_;
  bool has_stopped_ = false;
  std::chrono::steady_clock::time_point kill_at_;
};

}  // namespace

Result<ProcessId> IdentifyProcess(pid_t pid) {
  const auto fields = ReadStat(pid);
  if (!fields || fields.value().state == 'Z') return Errc::kNotFound;
  return ProcessId{pid, fields.value().start_ticks};
}

bool HasEnded(pid_t pid) {
  const auto fields = ReadStat(pid);
  if (!fields) return true;
  return fields.value().state == 'Z' || fields.value().state == 'X' ||
         (fields.value().flags & kExitingFlag) != 0;
}

bool IsRunning(const ProcessId& process) { return IsThere(process) && !HasEnded(process.pid); }

// Forks twice, so that the program's parent is init and no zombie of ours remains.
Result<ProcessId> SpawnDetached(const SpawnOptions& options) {
  UniqueFd log;
  if (!options.log_path.empty()) {
    log =
        UniqueFd(::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!log.is_open()) return Error::System(errno, "open " + options.log_path);
  }
  int pipe_fds[2];
  int failure_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  UniqueFd pid_read(pipe_fds[0]);
  UniqueFd pid_write(pipe_fds[1]);
  if (::pipe2(failure_fds, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  UniqueFd failure_read(failure_fds[0]);
  UniqueFd failure_write(failure_fds[1]);
  int go_fds[2];
  if (::pipe2(go_fds, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  UniqueFd go_read(go_fds[0]);
  UniqueFd go_write(go_fds[1]);

  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment = MergedEnvironment(options.environment);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);

  const pid_t middle = ::fork();
  if (middle < 0) return Error::System(errno, "fork");
  if (middle == 0) {
    const pid_t program = ::fork();
    if (program == 0) {
      go_write.Reset();
      WaitForGo(go_read.get());
      BecomeProgram(argument_pointers.data(), environment_pointers.data(), log.get(),
                    failure_write.get());
    }
    [[maybe_unused]] const ssize_t ignored = ::write(pid_write.get(), &program, sizeof(program));
    ::_exit(program < 0 ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  pid_write.Reset();
  failure_write.Reset();
  pid_t program = -1;
  if (::read(pid_read.get(), &program, sizeof(program)) != sizeof(program) || program <= 0) {
    return Error(Errc::kSystem, "cannot start " + arguments[0] + ": no more processes");
  }
  // While it waits: a program that ends at once would leave nothing to identify.
  const auto identity = IdentifyProcess(program);
  if (!identity) return Error(Errc::kSystem, arguments[0] + " was killed before it started");
  const char go = 1;
  if (::write(go_write.get(), &go, sizeof(go)) != sizeof(go)) return Error::System(errno, "pipe");
  int failure = 0;
  if (::read(failure_read.get(), &failure, sizeof(failure)) == sizeof(failure)) {
    if (failure == ENOENT) return Error(Errc::kNotFound, arguments[0] + ": no such program");
    return Error::System(failure, "start " + arguments[0]);
  }
  return identity.value();
}

Result<ProgramOutput> RunProgram(std::vector<std::string> arguments,
                                 const std::string& error_log_path, const std::atomic<bool>* stop) {
  constexpr std::size_t kOutputBytesMax = 16 << 20;
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return Error::System(errno, "pipe");
  UniqueFd read_end(pipe_fds[0]);
  UniqueFd write_end(pipe_fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), 1);
  if (!error_log_path.empty()) {
    posix_spawn_file_actions_addopen(&actions, 2, error_log_path.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0640);
  }
  pid_t pid = 0;
  const int failure = ::posix_spawnp(&pid, arguments[0].c_str(), &actions, nullptr,
                                     Pointers(arguments).data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure == ENOENT) return Error(Errc::kNotFound, arguments[0] + ": no such program");
  if (failure != 0) return Error::System(failure, "start " + arguments[0]);
  write_end.Reset();
  ProgramOutput output;
  char buffer[65536];
  bool is_too_big = false;
  ProgramStopper stopper(pid, stop);
  while (true) {
    if (!stopper.WaitForOutput(read_end.get())) continue;
    const ssize_t got = ::read(read_end.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    is_too_big = is_too_big || output.standard_output.size() > kOutputBytesMax;
    if (!is_too_big) output.standard_output.append(buffer, static_cast<std::size_t>(got));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (stopper.has_stopped()) return Error(Errc::kCancelled, arguments[0] + ": stopped");
  if (is_too_big) return Error(Errc::kTooBig, arguments[0] + ": too much output");
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

Result<void> StopProcess(const ProcessId& process, std::chrono::milliseconds grace) {
  constexpr auto kStep = std::chrono::milliseconds(10);
  constexpr auto kKillGrace = std::chrono::seconds(5);
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (!IsThere(process)) return Ok();
    if (::kill(process.pid, signal) != 0 && errno != ESRCH) {
      return Error::System(errno, "kill " + std::to_string(process.pid));
    }
    const auto patience = signal == SIGTERM ? grace : std::chrono::milliseconds(kKillGrace);
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (!IsThere(process)) return Ok();
      std::this_thread::sleep_for(kStep);
    }
  }
  return Error(Errc::kTimedOut, "process " + std::to_string(process.pid) + " does not end");
}

}  // namespace filer
