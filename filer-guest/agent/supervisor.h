// supervisor.h: brings the services up in order, watches them, and takes them down in order:
//
//   prepare the device -> Ganesha (driver, engine, NFS, POSIX door) -> export folders -> Samba
//
// One thread of its own does the work; the methods only look and ask. A service that ends, or a
// step that fails, makes the state "failed" with what it said last; what still runs goes on (an NFS
// server is of use without Samba) until `shutdown`. So does an engine that stays unhealthy; that
// state ends when the engine is well again (its bridge came back).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"
#include "base/thread_annotations.h"

namespace filer::agent {

struct ExportDirectory {
  std::string path;  // absolute, inside the volume
  std::uint32_t mode = 0755;
};

// The parameters of `configure`, checked.
struct ServiceConfig {
  std::string device;        // "pci:0000:00:10.0", "vhost_user:/path.sock", "file:/path"
  std::string ganesha_conf;  // text
  std::string smb_conf;      // text; empty: no Samba
  std::string smb_user;
  std::string smb_password;
  std::vector<ExportDirectory> export_directories;
  std::vector<std::uint16_t> ports;  // TCP; ready means that somebody listens on each
  std::string run_dir;
  std::uint32_t memory_mb = 512;  // of the DMA arena
  // As the configuration files have them.
  std::string status_socket;  // default RUN_DIR/engine.sock
  std::string posix_door;     // default RUN_DIR/door
};

// Errors: kInvalidArgument naming the parameter.
Result<ServiceConfig> ParseServiceConfig(const Json& params);

struct ServiceState {
  std::string name;
  std::int64_t pid = 0;
  bool is_ok = false;
  std::string last_lines;  // of its log, when it is not ok
};

// What the supervisor does to the machine. Called from its thread only (State and EngineStatus also
// from others). Each blocks no longer than its own bound; waiting is the supervisor's.
class ServiceControl {
 public:
  virtual ~ServiceControl() = default;
  virtual Result<void> PrepareDevice(const ServiceConfig& config) = 0;
  virtual Result<void> StartGanesha(const ServiceConfig& config) = 0;
  // The plug-in's `status`. Errors: kNotRunning, kTimedOut while it is not there yet.
  virtual Result<Json> EngineStatus(const ServiceConfig& config) = 0;
  virtual Result<void> MakeExportDirectory(const ServiceConfig& config,
                                           const ExportDirectory& directory) = 0;
  virtual Result<void> ReloadExports() = 0;
  virtual bool IsDoorMounted(const ServiceConfig& config) = 0;
  virtual Result<void> StartSamba(const ServiceConfig& config) = 0;
  virtual bool IsListening(std::uint16_t port) = 0;
  virtual std::vector<ServiceState> States() = 0;
  // Ordered stop. Errors: kTimedOut naming the service that had to be killed.
  virtual Result<void> StopSamba() = 0;
  virtual Result<void> StopGanesha() = 0;
  virtual void CleanUp(const ServiceConfig& config) = 0;
};

struct SupervisorTimes {
  std::chrono::milliseconds engine_deadline{60'000};
  std::chrono::milliseconds exports_deadline{20'000};
  std::chrono::milliseconds door_deadline{10'000};
  std::chrono::milliseconds ports_deadline{30'000};
  std::chrono::milliseconds poll{20};
  std::chrono::milliseconds watch{250};
  std::chrono::milliseconds engine_watch{1'000};  // between two questions to a running engine
};

class Supervisor {
 public:
  enum class State { kIdle, kStarting, kReady, kFailed, kStopping };

  explicit Supervisor(ServiceControl& control, SupervisorTimes times = {});
  ~Supervisor();  // stops the services

  // Answers at once. Errors: kInvalidArgument, kBusy when configured already, kShuttingDown.
  Result<Json> Configure(const Json& params);
  // {state, error, services, engine}
  Json Health();
  // Where the engine answers. Errors: kNotRunning before `configure`.
  Result<std::string> EngineSocket();
  // Asks for the ordered stop and returns at once; IsStopped says when it is done.
  void RequestShutdown();
  bool IsStopped() const { return is_stopped_.load(std::memory_order_acquire); }
  // Why the stop was not clean; empty if it was. Valid once stopped.
  std::string StopNote();

 private:
  void Run(ServiceConfig config);
  Result<void> BringUp(const ServiceConfig& config);
  Result<void> WaitForEngine(const ServiceConfig& config);
  Result<void> WaitForExports(const ServiceConfig& config);
  Result<void> WaitForDoor(const ServiceConfig& config);
  Result<void> WaitForPorts(const ServiceConfig& config);
  Result<void> Pause(std::chrono::milliseconds duration);
  Result<void> CheckServices();
  void Watch(const ServiceConfig& config);
  std::string EngineTrouble(const ServiceConfig& config);
  void TakeDown(const ServiceConfig& config);
  void SetState(State state, const std::string& error) FILER_EXCLUDES(mutex_);

  ServiceControl& control_;
  const SupervisorTimes times_;
  // Set once; ends every wait of the worker. Relaxed: publishes nothing.
  std::atomic<bool> is_stopping_{false};
  bool is_up_ = false;                   // BringUp went well; the worker's own
  std::atomic<bool> is_stopped_{false};  // released after TakeDown, acquired by IsStopped
  Mutex mutex_;
  State state_ FILER_GUARDED_BY(mutex_) = State::kIdle;
  std::string error_ FILER_GUARDED_BY(mutex_);
  std::string stop_note_ FILER_GUARDED_BY(mutex_);
  std::unique_ptr<ServiceConfig> config_ FILER_GUARDED_BY(mutex_);
  std::thread worker_;
};

}  // namespace filer::agent
