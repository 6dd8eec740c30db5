#include "host-bridge/keeper/keeper.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

namespace filer::bridge {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{10};
constexpr milliseconds kRetryForkPause{100};  // the system has no process for us
constexpr milliseconds kTryDeadline{5'000};   // of a program that is asked for its version
constexpr milliseconds kReadyPoll{2};
constexpr milliseconds kReadyAnswer{1'000};
constexpr std::int64_t kNsPerMs = 1'000'000;

std::int64_t NowNs() { return SystemClock().MonotonicNs(); }

bool IsReadable(int fd) {
  pollfd look{fd, POLLIN, 0};
  return ::poll(&look, 1, 0) > 0;
}

}  // namespace

milliseconds PauseAfter(std::uint32_t early_ends, milliseconds pause_max) {
  if (early_ends < 2) return milliseconds(0);
  milliseconds pause = kFirstPause;
  for (std::uint32_t i = 2; i < early_ends && pause < pause_max; ++i) pause *= 4;
  return std::min(pause, pause_max);
}

Result<std::unique_ptr<Keeper>> Keeper::Create(KeeperOptions options) {
  FILER_ASSERT(!options.command.empty());
  std::unique_ptr<Keeper> keeper(new Keeper(std::move(options)));
  keeper->command_ = keeper->options_.command;
  keeper->program_ = FILER_TRY(OpenProgram(keeper->options_.command[0]));
  keeper->wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!keeper->wake_.is_open()) return Error::System(errno, "eventfd");
  MutexLock lock(keeper->mutex_);
  keeper->shown_.program = keeper->options_.command[0];
  return keeper;
}

int Keeper::Run(int stop_fd) {
  Start();
  while (true) {
    pollfd waits[3] = {{stop_fd, POLLIN, 0}, {wake_.get(), POLLIN, 0}, {child_.pidfd(), POLLIN, 0}};
    if (::poll(waits, 3, WaitMs()) < 0 && errno != EINTR) break;
    if (waits[0].revents != 0) break;
    if (child_.pid() != 0 && waits[2].revents != 0 && child_.WaitEnd(milliseconds(0))) {
      if (IsHopeless()) return child_.exit_status();
      OnEnd();
    }
    if (waits[1].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof(count));
      Upgrade(stop_fd);
    }
    if (!child_.is_running() && NowNs() >= next_start_ns_) Start();
  }
  SetState("stopping");
  StopChild();
  return 0;
}

int Keeper::WaitMs() const {
  if (child_.is_running()) return -1;
  const std::int64_t left_ns = std::max<std::int64_t>(0, next_start_ns_ - NowNs());
  return static_cast<int>((left_ns + kNsPerMs - 1) / kNsPerMs);
}

// False: the system could not; tried again soon.
bool Keeper::Start() {
  started_ns_ = NowNs();
  auto started = Child::Start(program_, command_);
  if (!started.has_value()) {
    FILER_LOG_ERROR("{}", started.assume_error().message());
    next_start_ns_ = NowNs() + kRetryForkPause.count() * kNsPerMs;
    return false;
  }
  child_ = std::move(started).assume_value();
  MutexLock lock(mutex_);
  shown_.pid = child_.pid();
  if (shown_.state != "upgrading") shown_.state = "running";
  return true;
}

// The very first start, ended by the program itself: it told why, and would do so again.
bool Keeper::IsHopeless() const {
  return !was_stable_ && early_ends_ == 0 && !child_.was_killed() && child_.exit_status() != 0 &&
         NowNs() - started_ns_ < options_.stable.count() * kNsPerMs;
}

void Keeper::OnEnd() {
  const bool is_early = NowNs() - started_ns_ < options_.stable.count() * kNsPerMs;
  was_stable_ |= !is_early;
  early_ends_ = is_early ? early_ends_ + 1 : 0;
  const milliseconds pause = PauseAfter(early_ends_, options_.pause_max);
  next_start_ns_ = NowNs() + pause.count() * kNsPerMs;
  FILER_LOG_WARN("the bridge (pid {}) {} after {} ms; starting it again in {} ms", child_.pid(),
                 child_.EndText(), (NowNs() - started_ns_) / kNsPerMs, pause.count());
  MutexLock lock(mutex_);
  shown_.last_end = child_.EndText();
  shown_.state = pause.count() == 0 ? "starting" : "waiting";
  shown_.pid = 0;
  shown_.early_ends = early_ends_;
  shown_.next_start_ns = next_start_ns_;
  ++shown_.restarts;
}

void Keeper::StopChild() {
  child_.Signal(SIGTERM);
  if (child_.WaitEnd(options_.stop_grace)) return;
  FILER_LOG_ERROR("the bridge does not stop within {} ms; killing it", options_.stop_grace.count());
  child_.Signal(SIGKILL);
  static_cast<void>(child_.WaitEnd(milliseconds(-1)));
}

void Keeper::SetState(const std::string& state) {
  MutexLock lock(mutex_);
  shown_.state = state;
}

Json Keeper::Status() const {
  MutexLock lock(mutex_);
  const std::int64_t left_ns =
      shown_.state == "waiting" ? std::max<std::int64_t>(0, shown_.next_start_ns - NowNs()) : 0;
  return {{"state", shown_.state},
          {"program", shown_.program},
          {"pid", shown_.pid},
          {"restarts", shown_.restarts},
          {"early_ends", shown_.early_ends},
          {"next_start_ms", left_ns / kNsPerMs},
          {"last_end", shown_.last_end},
          {"upgrade",
           {{"state", shown_.upgrade_state},
            {"error", shown_.upgrade_error},
            {"took_ms", shown_.upgrade_ms}}}};
}

Result<Json> Keeper::RequestUpgrade(const std::string& program) {
  if (!program.empty() && program.front() != '/') {
    return Error(Errc::kInvalidArgument, program + ": give the program's whole path");
  }
  MutexLock lock(mutex_);
  if (shown_.upgrade_state == "running") {
    return Error(Errc::kBusy, "an upgrade is under way");
  }
  if (shown_.state == "stopping") return Error(Errc::kShuttingDown, "the bridge is stopping");
  shown_.upgrade_state = "running";
  shown_.upgrade_error.clear();
  wanted_program_ = program.empty() ? shown_.program : program;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
  return Json::object();
}

// Whether it can be started at all, while the old one still serves.
Result<void> Keeper::TryProgram(const std::string& path, const UniqueFd& program) {
  Child trial = FILER_TRY(Child::Start(program, {path, "--version"}));
  if (!trial.WaitEnd(kTryDeadline)) {
    return Error(Errc::kTimedOut, path + " --version: does not end");
  }
  if (trial.was_killed() || trial.exit_status() != 0) {
    return Error(Errc::kRefused, fmt::format("{} --version {}", path, trial.EndText()));
  }
  return Ok();
}

// The daemon that runs now answers for itself.
bool Keeper::WaitReady(int stop_fd) {
  const std::int64_t deadline_ns = NowNs() + options_.ready_deadline.count() * kNsPerMs;
  while (NowNs() < deadline_ns && !IsReadable(stop_fd)) {
    auto client = RpcClient::Connect(options_.ready_socket);
    if (client.has_value()) {
      const auto status = client.value().Call("status", Json::object(), kReadyAnswer);
      if (status.has_value() && status.value().value("pid", 0) == child_.pid()) return true;
    }
    if (child_.WaitEnd(kReadyPoll)) return false;
  }
  return false;
}

void Keeper::Upgrade(int stop_fd) {
  std::string path;
  {
    MutexLock lock(mutex_);
    path = wanted_program_;
  }
  const auto finish = [this](const std::string& error) {
    if (!error.empty()) FILER_LOG_ERROR("upgrade: {}", error);
    MutexLock lock(mutex_);
    shown_.upgrade_error = error;
    shown_.upgrade_state = error.empty() ? "done" : "failed";
    shown_.state = child_.is_running() ? "running" : "starting";
  };
  auto program = OpenProgram(path);
  if (!program.has_value()) return finish(program.error().message());
  const auto tried = TryProgram(path, program.value());
  if (!tried.has_value()) return finish(tried.error().message());

  SetState("upgrading");
  const std::int64_t begin_ns = NowNs();
  StopChild();
  was_stable_ = true;  // whatever comes now is not the first start
  const std::string path_before = std::exchange(command_[0], path);
  std::swap(program_, program.value());
  early_ends_ = 0;
  next_start_ns_ = 0;
  if (Start() && WaitReady(stop_fd)) {
    const std::int64_t took_ms = (NowNs() - begin_ns) / kNsPerMs;
    FILER_LOG_INFO("upgraded to {} in {} ms", path, took_ms);
    {
      MutexLock lock(mutex_);
      shown_.program = path;
      shown_.upgrade_ms = took_ms;
    }
    return finish("");
  }
  std::string error = path + ": does not come to serve";
  if (!child_.is_running()) error = fmt::format("{} {}", path, child_.EndText());
  StopChild();
  command_[0] = path_before;
  std::swap(program_, program.value());
  Start();
  finish(error + "; the program before it runs again");
}

}  // namespace filer::bridge
