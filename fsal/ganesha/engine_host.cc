#include "fsal/ganesha/engine_host.h"

#include <spdlog/sinks/base_sink.h>

#include <array>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
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

std::string ToHex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

Json ToJson(const engine::EngineCounters& counters) {
  return {{"reads", counters.reads},
          {"read_bytes", counters.read_bytes},
          {"writes", counters.writes},
          {"write_bytes", counters.write_bytes},
          {"commits", counters.commits},
          {"metadata_changes", counters.metadata_changes},
          {"copied_read_bytes", counters.copied_read_bytes},
          {"copied_write_bytes", counters.copied_write_bytes},
          {"cache_hit_blocks", counters.cache_hit_blocks},
          {"cache_miss_blocks", counters.cache_miss_blocks},
          {"dirty_bytes", counters.dirty_bytes},
          {"cached_bytes", counters.cached_bytes},
          {"log_groups", counters.log_groups},
          {"log_transactions", counters.log_transactions},
          {"checkpoints", counters.checkpoints},
          {"recovered_groups", counters.recovered_groups},
          {"free_blocks", counters.free_blocks},
          {"inodes", counters.inodes},
          {"quota_limited_ids", counters.quota_limited_ids},
          {"quota_refusals", counters.quota_refusals}};
}

// "/a//b/" -> "a", "b". Errors: kInvalidName for ".", ".." and what is not absolute.
Result<std::vector<std::string>> SplitPath(const std::string& path) {
  if (path.empty() || path.front() != '/') {
    return Error(Errc::kInvalidName, "'" + path + "': a path inside the volume starts with /");
  }
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    std::string part = path.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty()) continue;
    if (part == "." || part == "..") {
      return Error(Errc::kInvalidName,
                   "'" + path + "': . and .. have no place in an export's path");
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

struct EngineHost::Parts {
  std::unique_ptr<RpcServer> status_socket;
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
  if (config.status_socket != nullptr) FILER_TRY(StartStatusSocket(config.status_socket));
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

Result<void> EngineHost::StartStatusSocket(const std::string& path) {
  if (parts_->status_socket != nullptr) return Ok();
  RpcMethods methods;
  methods["status"] = [this](const Json&) -> Result<Json> { return StatusReport(); };
  methods["mkdir"] = [this](const Json& params) { return MakeDirectory(params); };
  parts_->status_socket = FILER_TRY(RpcServer::Listen(path, std::move(methods)));
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
  parts_->status_socket.reset();
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
  report["uuid"] = ToHex(engine.VolumeUuid());
  report["transport"] = parts_->volume.transport;
  report["counters"] = ToJson(counters);
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

// {"path": "/a/b", "mode": 493}: makes the last part if it is missing.
Result<Json> EngineHost::MakeDirectory(const Json& params) {
  engine::Engine* engine = this->engine();
  if (engine == nullptr) return Error(Errc::kNotRunning, "no volume: " + error());
  if (!params.contains("path") || !params["path"].is_string()) {
    return Error(Errc::kInvalidArgument, "mkdir: params.path is missing");
  }
  const auto parts = FILER_TRY(SplitPath(params["path"].get<std::string>()));
  const Json mode = params.value("mode", Json(0755));
  if (!mode.is_number_unsigned() || mode.get<std::uint64_t>() > 07777) {
    return Error(Errc::kInvalidArgument, "mkdir: params.mode is no mode");
  }
  if (parts.empty()) return Json{{"created", false}};
  engine::SetDoor(0);
  engine::NodeId directory = engine->Root();
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    const auto found = FILER_TRY(engine->Lookup(directory, parts[i]));
    directory = found.id;
  }
  engine::CreateOptions options;
  options.kind = engine::NodeKind::kDirectory;
  options.attributes.mode = mode.get<std::uint32_t>();
  engine::Caller root;
  root.is_trusted = true;
  const auto created = engine->Create(root, directory, parts.back(), options);
  if (created.has_value()) return Json{{"created", true}};
  if (!(created.assume_error() == Errc::kExists)) return created.assume_error();
  const auto existing = FILER_TRY(engine->Lookup(directory, parts.back()));
  if (existing.kind != engine::NodeKind::kDirectory) {
    return Error(Errc::kNotDirectory, params["path"].get<std::string>() + " is no folder");
  }
  return Json{{"created", false}};
}

void UseGaneshaLog() {
  auto logger = std::make_shared<spdlog::logger>("nearmetal", std::make_shared<GaneshaSink>());
  logger->set_level(spdlog::level::debug);  // Ganesha's own level decides
  spdlog::set_default_logger(std::move(logger));
}

Result<engine::Attributes> FindDirectory(engine::Engine& engine, const std::string& path) {
  engine::Attributes node = FILER_TRY(engine.GetAttributes(engine.Root()));
  std::string walked;
  for (const std::string& part : FILER_TRY(SplitPath(path))) {
    walked += "/" + part;
    const auto found = engine.Lookup(node.id, part);
    if (!found.has_value()) {
      return Error(found.assume_error().code(), "folder " + walked + " in volume " +
                                                    engine.VolumeName() + ": " +
                                                    found.assume_error().message());
    }
    node = found.assume_value();
    if (node.kind != engine::NodeKind::kDirectory) {
      return Error(Errc::kNotDirectory, walked + " in volume " + engine.VolumeName() +
                                            " is no folder, so it cannot be exported");
    }
  }
  return node;
}

}  // namespace filer::ganesha
