#include "filer-guest/agent/supervisor.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"

namespace filer::agent {
namespace {

constexpr const char* StateName(Supervisor::State state) {
  switch (state) {
    case Supervisor::State::kIdle:
      return "idle";
    case Supervisor::State::kStarting:
      return "starting";
    case Supervisor::State::kReady:
      return "ready";
    case Supervisor::State::kFailed:
      return "failed";
    case Supervisor::State::kStopping:
      return "stopping";
  }
  return "failed";
}

// The exports that the plug-in reports as failed, in words; empty if there are none.
std::string FailedExports(const Json& status) {
  std::string text;
  const auto exports = status.find("exports");
  if (exports == status.end() || !exports->is_array()) return text;
  for (const Json& entry : *exports) {
    if (!entry.is_object() || entry.value("ok", false)) continue;
    if (!text.empty()) text += "; ";
    text += entry.value("path", "?") + ": " + entry.value("error", "failed");
  }
  return text;
}

// An engine that is unhealthy in so many answers in a row is in trouble.
constexpr int kUnhealthyAnswers = 3;

}  // namespace

Supervisor::Supervisor(ServiceControl& control, SupervisorTimes times)
    : control_(control), times_(times) {}

Supervisor::~Supervisor() {
  RequestShutdown();
  if (worker_.joinable()) worker_.join();
}

Result<Json> Supervisor::Configure(const Json& params) {
  ServiceConfig config = FILER_TRY(ParseServiceConfig(params));
  const MutexLock lock(mutex_);
  if (is_stopping_.load(std::memory_order_relaxed)) {
    return Error(Errc::kShuttingDown, "the agent is stopping");
  }
  if (state_ != State::kIdle) {
    return Error(Errc::kBusy, "configured already; shut down first");
  }
  state_ = State::kStarting;
  config_ = std::make_unique<ServiceConfig>(config);
  worker_ = std::thread([this, config = std::move(config)]() mutable { Run(std::move(config)); });
  return Json{{"state", "starting"}};
}

Json Supervisor::Health() {
  std::unique_ptr<ServiceConfig> config;
  Json health;
  {
    const MutexLock lock(mutex_);
    health = Json{{"state", StateName(state_)}, {"error", error_}};
    if (config_ != nullptr) config = std::make_unique<ServiceConfig>(*config_);
  }
  Json services = Json::array();
  for (const ServiceState& service : control_.States()) {
    services.push_back({{"name", service.name}, {"pid", service.pid}, {"ok", service.is_ok}});
    if (!service.is_ok) services.back()["last_lines"] = service.last_lines;
  }
  health["services"] = std::move(services);
  health["engine"] = nullptr;
  if (config != nullptr && !is_stopping_.load(std::memory_order_relaxed)) {
    if (auto status = control_.EngineStatus(*config)) health["engine"] = status.value();
  }
  return health;
}

Result<std::string> Supervisor::EngineSocket() {
  const MutexLock lock(mutex_);
  if (config_ == nullptr) return Error(Errc::kNotRunning, "the filer is not configured yet");
  return config_->status_socket;
}

void Supervisor::RequestShutdown() {
  const MutexLock lock(mutex_);
  if (is_stopping_.exchange(true, std::memory_order_relaxed)) return;
  if (state_ == State::kIdle) {
    is_stopped_.store(true, std::memory_order_release);
  }
  state_ = State::kStopping;
}

std::string Supervisor::StopNote() {
  const MutexLock lock(mutex_);
  return stop_note_;
}

void Supervisor::SetState(State state, const std::string& error) {
  const MutexLock lock(mutex_);
  if (state_ == State::kStopping) return;
  state_ = state;
  error_ = error;
}

void Supervisor::Run(ServiceConfig config) {
  const Result<void> started = BringUp(config);
  if (started) {
    FILER_LOG_INFO("ready");
    is_up_ = true;
    SetState(State::kReady, "");
  } else if (!(started.error() == Errc::kShuttingDown)) {
    FILER_LOG_ERROR("{}", started.error().message());
    SetState(State::kFailed, started.error().message());
  }
  Watch(config);
  TakeDown(config);
  is_stopped_.store(true, std::memory_order_release);
}

Result<void> Supervisor::BringUp(const ServiceConfig& config) {
  FILER_TRY(control_.PrepareDevice(config));
  FILER_TRY(control_.StartGanesha(config));
  FILER_TRY(WaitForEngine(config));
  for (const ExportDirectory& directory : config.export_directories) {
    FILER_TRY(control_.MakeExportDirectory(config, directory));
  }
  FILER_TRY(WaitForExports(config));
  if (!config.smb_conf.empty()) {
    FILER_TRY(WaitForDoor(config));
    FILER_TRY(control_.StartSamba(config));
  }
  return WaitForPorts(config);
}

// One short wait of a longer one. Errors: kShuttingDown; kRefused when a service has ended.
Result<void> Supervisor::Pause(std::chrono::milliseconds duration) {
  if (is_stopping_.load(std::memory_order_relaxed)) return Errc::kShuttingDown;
  FILER_TRY(CheckServices());
  std::this_thread::sleep_for(duration);
  return Ok();
}

Result<void> Supervisor::CheckServices() {
  for (const ServiceState& service : control_.States()) {
    if (service.is_ok) continue;
    return Error(Errc::kRefused, service.name + " has ended; it said last: " + service.last_lines);
  }
  return Ok();
}

Result<void> Supervisor::WaitForEngine(const ServiceConfig& config) {
  const auto deadline = std::chrono::steady_clock::now() + times_.engine_deadline;
  std::string last = "no answer on " + config.status_socket;
  while (std::chrono::steady_clock::now() < deadline) {
    if (auto status = control_.EngineStatus(config)) {
      // The plug-in's own error comes back here: a volume that cannot be mounted never heals.
      // One without its bridge for a moment does.
      const std::string error = status.value().value("error", "");
      const bool is_connected = status.value().value("connected", true);
      if (!error.empty() && is_connected) return Error(Errc::kRefused, error);
      if (status.value().value("healthy", false)) return Ok();
      last = "the engine is not healthy";
    }
    FILER_TRY(Pause(times_.poll));
  }
  return Error(Errc::kTimedOut, "the engine did not start in time: " + last);
}

// Ganesha reads its exports at start, when the folders of new ones do not exist yet: those failed,
// and are read again by SIGHUP. One that it has not come to yet finds its folder.
Result<void> Supervisor::WaitForExports(const ServiceConfig& config) {
  const auto deadline = std::chrono::steady_clock::now() + times_.exports_deadline;
  std::string failed;
  bool has_asked = false;
  while (std::chrono::steady_clock::now() < deadline) {
    if (auto status = control_.EngineStatus(config)) {
      failed = FailedExports(status.value());
      if (failed.empty()) return Ok();
      if (!has_asked) FILER_TRY(control_.ReloadExports());
      has_asked = true;
    }
    FILER_TRY(Pause(times_.poll));
  }
  return Error(Errc::kTimedOut, "exports: " + failed);
}

Result<void> Supervisor::WaitForDoor(const ServiceConfig& config) {
  const auto deadline = std::chrono::steady_clock::now() + times_.door_deadline;
  while (!control_.IsDoorMounted(config)) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return Error(Errc::kTimedOut,
                   config.posix_door + ": the engine did not mount its POSIX door");
    }
    FILER_TRY(Pause(times_.poll));
  }
  return Ok();
}

// A server that was started does not listen yet: clients that came now would be refused.
Result<void> Supervisor::WaitForPorts(const ServiceConfig& config) {
  const auto deadline = std::chrono::steady_clock::now() + times_.ports_deadline;
  for (const std::uint16_t port : config.ports) {
    while (!control_.IsListening(port)) {
      if (std::chrono::steady_clock::now() >= deadline) {
        return Error(Errc::kTimedOut, fmt::format("no service listens on port {}", port));
      }
      FILER_TRY(Pause(times_.poll));
    }
  }
  return Ok();
}

// Why the engine does not serve its volume whole; empty while it does, or does not answer.
std::string Supervisor::EngineTrouble(const ServiceConfig& config) {
  const auto status = control_.EngineStatus(config);
  if (!status || status.value().value("healthy", true)) return "";
  const std::string error = status.value().value("error", "");
  return error.empty() ? "the engine is not healthy" : error;
}

// Until shutdown: a dead service makes the state "failed", once and for good; an engine in trouble
// does as long as it is.
void Supervisor::Watch(const ServiceConfig& config) {
  bool has_ended = false;
  int unhealthy_answers = 0;
  auto next_question = std::chrono::steady_clock::now() + times_.engine_watch;
  while (!is_stopping_.load(std::memory_order_relaxed)) {
    std::this_thread::sleep_for(times_.watch);
    if (has_ended) continue;
    if (auto services = CheckServices(); !services) {
      has_ended = true;
      FILER_LOG_ERROR("{}", services.error().message());
      SetState(State::kFailed, services.error().message());
      continue;
    }
    // A start that failed stays so.
    if (!is_up_ || std::chrono::steady_clock::now() < next_question) continue;
    const std::string trouble = EngineTrouble(config);
    next_question = std::chrono::steady_clock::now() + times_.engine_watch;
    if (!trouble.empty()) {
      if (++unhealthy_answers == kUnhealthyAnswers) FILER_LOG_ERROR("{}", trouble);
      if (unhealthy_answers >= kUnhealthyAnswers) SetState(State::kFailed, trouble);
      continue;
    }
    if (unhealthy_answers >= kUnhealthyAnswers) {
      FILER_LOG_INFO("the engine is well again");
      SetState(State::kReady, "");
    }
    unhealthy_answers = 0;
  }
}

void Supervisor::TakeDown(const ServiceConfig& config) {
  std::string note;
  for (const auto& stop : {&ServiceControl::StopSamba, &ServiceControl::StopGanesha}) {
    if (auto stopped = (control_.*stop)(); !stopped) note += stopped.error().message() + "; ";
  }
  control_.CleanUp(config);
  if (!note.empty()) FILER_LOG_WARN("stopped, but {}", note);
  const MutexLock lock(mutex_);
  stop_note_ = note;
}

}  // namespace filer::agent
