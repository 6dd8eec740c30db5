// main.cc: host-bridge, the process that serves volumes to guests. Ready when the control socket
// answers; ends on SIGTERM, SIGINT or the method `shutdown`, with everything written made durable.
#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <set>

#include "base/json_rpc.h"
#include "base/log.h"
#include "host-bridge/backend/backend.h"
#include "host-bridge/daemon/confine.h"
#include "host-bridge/daemon/options.h"
#include "host-bridge/daemon/status.h"
#include "host-bridge/daemon/volume_methods.h"
#include "host-bridge/target/limits.h"
#include "host-bridge/target/poller_group.h"

namespace filer::bridge {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

Result<std::unique_ptr<Backend>> OpenBackend(const VolumeSpec& spec) {
  if (spec.backend == "memory") return OpenMemoryBackend(spec.size_bytes);
  if (spec.backend == "null") return OpenNullBackend(spec.size_bytes);
  auto backend = FILER_TRY(OpenFileBackend({spec.path, spec.is_read_only}));
  const std::uint64_t size_bytes = backend->Info().size_bytes;
  if (size_bytes < spec.size_bytes) {
    return Error(Errc::kTooSmall, fmt::format("{}: has {} bytes, size= says {}; grow the file or "
                                              "leave size= out",
                                              spec.path, size_bytes, spec.size_bytes));
  }
  return backend;
}

// Volumes and sockets are open then; nobody is served yet.
Result<std::unique_ptr<PollerGroup>> CreatePollers(const DaemonOptions& options) {
  std::vector<std::unique_ptr<Volume>> volumes;
  std::set<std::string> names, sockets;
  if (options.volumes.size() > kVolumeCountMax) {
    return Error(Errc::kUsage, fmt::format("{} volumes; one bridge serves {} at most",
                                           options.volumes.size(), kVolumeCountMax));
  }
  for (const VolumeSpec& spec : options.volumes) {
    if (!names.insert(spec.name).second || !sockets.insert(spec.socket).second) {
      return Error(Errc::kUsage,
                   fmt::format("volume {}: its name or socket is used twice", spec.name));
    }
    auto backend = FILER_TRY(OpenBackend(spec));
    const VolumeOptions volume{spec.name, spec.socket, options.queue_count, spec.limits};
    volumes.push_back(FILER_TRY(Volume::Create(volume, std::move(backend))));
  }
  PollerGroupOptions pollers;
  pollers.poller_count = FILER_TRY(PollerCount(options));
  pollers.cpus = options.cpus;
  pollers.idle_us = options.idle_us;
  return PollerGroup::Create(pollers, std::move(volumes));
}

// Serves until a signal. The signals are blocked in every thread; this one takes them.
Result<void> Serve(const DaemonOptions& options, const sigset_t& signals) {
  auto pollers = FILER_TRY(CreatePollers(options));
  const pthread_t main_thread = ::pthread_self();
  std::atomic<bool> is_serving = false;
  RpcMethods methods;
  methods["status"] = [&](const Json&) -> Result<Json> {
    if (!is_serving.load(std::memory_order_acquire)) return Error(Errc::kBusy, "starting");
    return StatusJson(*pollers, options.volumes);
  };
  AddVolumeMethods(*pollers, methods);
  methods["shutdown"] = [&](const Json&) -> Result<Json> {
    ::pthread_kill(main_thread, SIGTERM);
    return Json::object();
  };
  auto server = FILER_TRY(RpcServer::Listen(options.control_socket, std::move(methods)));
  if (options.confine == "on") FILER_TRY(Confine());
  FILER_TRY(pollers->Start());
  is_serving.store(true, std::memory_order_release);  // pairs with `status`
  FILER_LOG_INFO("serving {} volumes with {} pollers as user {}, control socket {}",
                 options.volumes.size(), pollers->size(), ::geteuid(), options.control_socket);
  int number = 0;
  ::sigwait(&signals, &number);
  FILER_LOG_INFO("stopping");
  // Most of what has to become durable does while clients are still served: they may be waiting for
  // the next daemon.
  for (const auto& volume : pollers->volumes()) static_cast<void>(volume->Flush().has_value());
  pollers->Stop();  // flushes again; the control socket answers until everything is durable
  server.reset();
  return Ok();
}

int Fail(const Error& error) {
  fmt::print(stderr, "host-bridge: {}\n", error.message());
  return error == Errc::kUsage ? kExitUsage : kExitFailed;
}

void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int Main(int argc, char** argv) {
  DaemonOptions options;
  std::vector<std::string> volume_texts;
  std::string cpu_text;
  CLI::App app("Serves volumes to guests over vhost-user-blk");
  app.set_version_flag("--version", FILER_VERSION);
  app.add_option("--control", options.control_socket, "Socket of the control channel")->required();
  app.add_option("--volume", volume_texts,
                 "name=N,backend=file|memory|null,path=FILE,size=BYTES,socket=PATH,readonly=on|off,"
                 "iops=N,bps=BYTES")
      ->required()
      ->take_all()
      ->expected(1);
  app.add_option("--queues", options.queue_count, "Queues offered per volume")
      ->check(CLI::Range(1U, kQueueCountMax));
  app.add_option("--pollers", options.poller_count,
                 "Threads that serve the queues (default: one, or one per core of --cpu)")
      ->check(CLI::Range(1U, kPollerCountMax));
  app.add_option("--cpu", cpu_text, "Cores of the pollers, one each: 1, or 1,3 for two");
  app.add_option("--confine", options.confine, "Give up privileges and system calls: on or off")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--idle-us", options.idle_us,
                 "Without work for so long the poller sleeps; 0: never, for a core of its own")
      ->check(CLI::Range(0, 10'000'000));
  app.add_option("--log-level", options.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "host-bridge: {}\n", error.what());
    return kExitUsage;
  }
  for (const std::string& text : volume_texts) {
    auto spec = ParseVolumeSpec(text);
    if (!spec.has_value()) return Fail(spec.assume_error());
    options.volumes.push_back(std::move(spec).assume_value());
  }
  if (app.count("--cpu") > 0) {
    auto cpus = ParseCpuList(cpu_text);
    if (!cpus.has_value()) return Fail(cpus.assume_error());
    options.cpus = std::move(cpus).assume_value();
  }
  InitLog("host-bridge", options.log_level);
  RaiseFileLimit();
  // One arena: glibc reads a file of /proc before it gives memory of another one back, and a
  // confined daemon may open nothing. Nobody allocates per request, so nobody waits for it. Another
  // allocator, such as a sanitizer's, need not know the word.
  static_cast<void>(::mallopt(M_ARENA_MAX, 1));
  if (options.confine == "on") {
    const auto begun = BeginConfinement();
    if (!begun.has_value()) return Fail(begun.assume_error());
  }

  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const auto served = Serve(options, signals);
  return served.has_value() ? 0 : Fail(served.assume_error());
}

}  // namespace
}  // namespace filer::bridge

int main(int argc, char** argv) { return filer::bridge::Main(argc, argv); }
