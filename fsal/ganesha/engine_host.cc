#include "fsal/ganesha/engine_host.h"

#include <spdlog/sinks/base_sink.h>

#include <chrono>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "fsal/engine-control/control.h"
#include "fsal/engine-control/volume_methods.h"
#include "fsal/engine/device/open_device.h"
#include "fsal/posix-door/door.h"

namespace filer::ganesha {

namespace {

constexpr auto kPinnedReadsPatience = std::chrono::seconds(2);
// Of the buffer pool: what READ replies may pin, and how much more they may copy beside it. The
// other half of the pool keeps reads and writes of everybody else going.
constexpr std::uint64_t kPinnedShare = 2;
constexpr std::uint64_t kCopiedShare = 8;

class GaneshaSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string text(message.payload.data(), message.payload.size());
    nearmetal_log(LevelOf(message.level), text.c_str());
  }
  void flush_() override {}

 private:
  static nearmetal_log_level LevelOf(spdlog::level::level_enum level) {
    if (level >= spdlog::level::err) return NEARMETAL_ERROR;
    if (level == spdlog::level::warn) return NEARMETAL_WARN;
    return level == spdlog::level::info ? NEARMETAL_INFO : NEARMETAL_DEBUG;
  }
};

}  // namespace

struct EngineHost::Parts {
  std::unique_ptr<control::ControlServer> control;
  std::string spec;
  engine::OpenedDevice volume;
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<posix_door::PosixDoor> posix_door;
};

EngineHost& EngineHost::Instance() noexcept {
  static auto* host = new EngineHost;
  return *host;
}

EngineHost::EngineHost() : parts_(std::make_unique<Parts>()) {}

std::string EngineHost::error() const {
  MutexLock lock(mutex_);
  return error_;
}

Result<void> EngineHost::Start(const nearmetal_config& config) {
  if (engine() != nullptr) return Ok();
  if (config.status_socket != nullptr) FILER_TRY(StartControl(config.status_socket));
  auto started = StartEngine(config);
  {
    MutexLock lock(mutex_);
    error_ = started.has_value() ? "" : started.assume_error().message();
  }
  if (!started.has_value()) return started;
  if (config.posix_door != nullptr) StartPosixDoor(config.posix_door);
  return Ok();
}

Result<void> EngineHost::StartEngine(const nearmetal_config& config) {
  if (config.device == nullptr) {
    return Error(Errc::kConfigInvalid, "ganesha.conf: NEARMETAL { Device = ... } is missing");
  }
  parts_->spec = config.device;
  const std::uint64_t memory_bytes = static_cast<std::uint64_t>(config.memory_mb) << 20;
  engine::OpenDeviceOptions device;
  device.memory_bytes = memory_bytes;
  device.use_huge_pages = config.huge_pages;
  parts_->volume = FILER_TRY(engine::OpenVolumeDevice(parts_->spec, device));
  engine::MountOptions options;
  options.read_only = parts_->volume.device->Info().is_read_only;
  options.cache_bytes = parts_->volume.device->Pool().size_bytes() / 2;
  options.dirty_bytes_max = memory_bytes / 8;
  const std::uint64_t pool_bytes = parts_->volume.device->Pool().size_bytes();
  reply_budget_.SetLimits({.pinned_bytes_max = pool_bytes / kPinnedShare,
                           .copied_bytes_max = pool_bytes / kCopiedShare});
  auto mounted = engine::Engine::Mount(*parts_->volume.device, SystemClock(), options);
  if (!mounted.has_value()) {
    parts_->volume = {};
    const Error& error = mounted.assume_error();
    return Error(error.code(), parts_->spec + ": " + error.message());
  }
  parts_->engine = std::move(mounted).assume_value();
  engine_.store(parts_->engine.get(), std::memory_order_release);
  FILER_LOG_INFO("volume {} mounted from {} ({})", parts_->engine->VolumeName(), parts_->spec,
                 parts_->volume.transport);
  return Ok();
}

Result<void> EngineHost::StartControl(const std::string& path) {
  if (parts_->control != nullptr) return Ok();
  RpcMethods own;
  own["status"] = [this](const Json&) -> Result<Json> { return StatusReport(); };
  parts_->control = FILER_TRY(control::ControlServer::Listen(
      path, {[this] { return engine(); }, [this] { return error(); }}, std::move(own)));
  return Ok();
}

// Without the door NFS is served all the same; `status` tells.
void EngineHost::StartPosixDoor(const std::string& mount_point) {
  posix_door::PosixDoorOptions options;
  options.on_end = [this, mount_point] {
    FILER_LOG_ERROR("POSIX door at {}: somebody unmounted it; restart to have it back",
                    mount_point);
    MutexLock lock(mutex_);
    error_ = "POSIX door at " + mount_point + ": unmounted by somebody";
  };
  auto door = posix_door::PosixDoor::Mount(*parts_->engine, mount_point, options);
  if (door.has_value()) {
    parts_->posix_door = std::move(door).assume_value();
    FILER_LOG_INFO("POSIX door at {}", mount_point);
    return;
  }
  const std::string reason = door.assume_error().message();
  FILER_LOG_ERROR("POSIX door at {}: {}", mount_point, reason);
  MutexLock lock(mutex_);
  error_ = "POSIX door at " + mount_point + ": " + reason;
}

bool EngineHost::WaitForPinnedReads() const noexcept {
  const auto deadline = std::chrono::steady_clock::now() + kPinnedReadsPatience;
  while (copies_.pinned_reads.load(std::memory_order_acquire) != 0) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

void EngineHost::Stop() noexcept {
  parts_->control.reset();
  parts_->posix_door.reset();
  if (parts_->engine == nullptr) return;
  try {
    parts_->engine->SetChangeListener(engine::kDoorNfs, nullptr);
    engine_.store(nullptr, std::memory_order_release);
    const auto unmounted = parts_->engine->Unmount();
    if (unmounted.has_value()) {
      FILER_LOG_INFO("volume unmounted");
    } else {
      FILER_LOG_ERROR("volume not unmounted cleanly, it recovers at the next start: {}",
                      unmounted.assume_error().message());
    }
    if (!WaitForPinnedReads()) {
      // The sockets of dead connections still hold pool buffers. The process ends in a moment;
      // their memory must stay until then.
      FILER_LOG_WARN("{} read replies were never taken", copies_.pinned_reads.load());
      (void)parts_->engine.release();
      (void)parts_->volume.device.release();
      return;
    }
    parts_->engine.reset();
    parts_->volume = {};
  } catch (const std::exception& exception) {
    nearmetal_log(NEARMETAL_ERROR, exception.what());
  }
}

void EngineHost::RecordExport(std::uint16_t id, const std::string& path, const std::string& error) {
  MutexLock lock(mutex_);
  exports_[id] = {path, error};
}

void EngineHost::ForgetExport(std::uint16_t id) {
  MutexLock lock(mutex_);
  exports_.erase(id);
}

// `error` says what keeps the volume from being served whole; empty when healthy. `needs_restart`:
// it does not heal by itself.
Json EngineHost::StatusReport() const {
  Json report;
  MutexLock lock(mutex_);
  const engine::Engine* engine = this->engine();
  Json exports = Json::array();
  for (const auto& [id, record] : exports_) {
    exports.push_back(
        {{"id", id}, {"path", record.path}, {"ok", record.error.empty()}, {"error", record.error}});
  }
  report["exports"] = std::move(exports);
  report["device"] = parts_->spec;
  std::string error = error_;
  if (engine != nullptr) {
    const auto health = engine->Health();
    const bool is_connected = parts_->volume.is_connected();
    report["connected"] = is_connected;
    report["needs_restart"] = !health.has_value();
    if (!health.has_value()) {
      error = engine->VolumeName() + ": " + health.assume_error().message();
    } else if (!is_connected && error.empty()) {
      error = parts_->spec + ": the bridge does not answer";
    }
    DescribeEngine(*engine, report);
  }
  report["healthy"] = engine != nullptr && error.empty();
  report["error"] = std::move(error);
  return report;
}

void EngineHost::DescribeEngine(const engine::Engine& engine, Json& report) const {
  engine::EngineCounters counters = engine.Counters();
  counters.copied_read_bytes += copies_.read_bytes.load(std::memory_order_relaxed);
  report["volume"] = engine.VolumeName();
  report["uuid"] = control::UuidText(engine);
  report["transport"] = parts_->volume.transport;
  report["counters"] = control::ToJson(counters);
  report["statistics"] = control::ToJson(engine.Statistics());
  report["pinned_reads"] = copies_.pinned_reads.load(std::memory_order_relaxed);
  const ReplyBudget::Usage replies = reply_budget_.GetUsage();
  const ReplyBudget::Limits limits = reply_budget_.GetLimits();
  report["read_replies"] = {{"pinned_bytes", replies.pinned_bytes},
                            {"pinned_bytes_max", limits.pinned_bytes_max},
                            {"copied_bytes", replies.copied_bytes},
                            {"copied_bytes_max", limits.copied_bytes_max},
                            {"refused", replies.refused}};
  const bridge::DiskCounters bridge = parts_->volume.counters();
  report["bridge"] = {{"requests", bridge.requests},
                      {"doorbells", bridge.doorbells},
                      {"interrupts", bridge.interrupts}};
}

void UseGaneshaLog() {
  auto logger = std::make_shared<spdlog::logger>("nearmetal", std::make_shared<GaneshaSink>());
  logger->set_level(spdlog::level::debug);  // Ganesha's own level decides
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace filer::ganesha
