// engine_host.h: the one engine of this process: device, engine, POSIX door and control socket,
// from the server's configuration to its end.
//
// Threads: Start and Stop run on Ganesha's start-up and shutdown thread; the rest from any thread.
// Never destroyed: threads of EAL and of Ganesha may outlive the process's static destructors.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/json_rpc.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "fsal/engine/engine.h"
#include "fsal/ganesha/config_table.h"
#include "fsal/ganesha/reply_budget.h"

namespace filer::ganesha {

// Bytes that this door itself copied, beside what the engine counts.
struct CopyCounters {
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> pinned_reads{
      0};  // READ replies whose pool buffers the socket still needs
};

class EngineHost {
 public:
  static EngineHost& Instance() noexcept;

  // Opens the control socket, the device and the engine, then the POSIX door. The control socket
  // stays up and tells the error when the rest fails. Blocking. Errors: those of the device and of
  // Engine::Mount; kConfigInvalid.
  Result<void> Start(const nearmetal_config& config);
  // Clean end: door unmounted, engine unmounted, device closed. No operation of Ganesha may be
  // running. Blocking.
  void Stop() noexcept;

  // Null before Start succeeded and after Stop.
  engine::Engine* engine() const noexcept { return engine_.load(std::memory_order_acquire); }
  // Why there is no engine.
  std::string error() const FILER_EXCLUDES(mutex_);

  void RecordExport(std::uint16_t id, const std::string& path, const std::string& error)
      FILER_EXCLUDES(mutex_);
  void ForgetExport(std::uint16_t id) FILER_EXCLUDES(mutex_);

  CopyCounters& copies() noexcept { return copies_; }
  ReplyBudget& reply_budget() noexcept { return reply_budget_; }
  Json StatusReport() const FILER_EXCLUDES(mutex_);

 private:
  struct Parts;  // everything that is built in order and torn down in reverse
  struct ExportRecord {
    std::string path;
    std::string error;
  };

  EngineHost();
  Result<void> StartEngine(const nearmetal_config& config);
  Result<void> StartControl(const std::string& path);
  void StartPosixDoor(const std::string& mount_point);
  void DescribeEngine(const engine::Engine& engine, Json& report) const;
  bool WaitForPinnedReads() const noexcept;

  std::atomic<engine::Engine*> engine_{nullptr};  // owned by parts_
  std::unique_ptr<Parts> parts_;
  CopyCounters copies_;
  ReplyBudget reply_budget_;
  mutable Mutex mutex_;
  std::string error_ FILER_GUARDED_BY(mutex_);
  std::map<std::uint16_t, ExportRecord> exports_ FILER_GUARDED_BY(mutex_);
};

// Sends spdlog's lines into Ganesha's log, so that there is one.
void UseGaneshaLog();

}  // namespace filer::ganesha
