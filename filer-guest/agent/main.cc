// filer-agent: brings the filer's services up and down, in the guest (as its first process) or on
// the host, and answers JSON-RPC: hello, configure, health, logs, engine (a call of the engine's
// own methods), shutdown.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/json_rpc.h"
#include "base/log.h"
#include "filer-guest/agent/children.h"
#include "filer-guest/agent/engine_call.h"
#include "filer-guest/agent/guest_boot.h"
#include "filer-guest/agent/machine_control.h"
#include "filer-guest/agent/port_server.h"
#include "filer-guest/agent/supervisor.h"
#include "filer-guest/agent/version.h"

namespace filer::agent {
namespace {

constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::milliseconds kLastAnswer{200};
constexpr std::size_t kLogBytesMax = 64 * 1024;

volatile sig_atomic_t stop_signal = 0;
void OnSignal(int signal) { stop_signal = signal; }

struct Options {
  bool is_init = false;
  bool wants_versions = false;
  std::string port;
  std::string socket;
  std::string ganesha;
  std::string library_path;
  std::string log_level = "info";
};

Json Hello(const std::string& network_error, std::int64_t boot_ms) {
  utsname names{};
  ::uname(&names);
  return Json{{"version", kVersion},
              {"kernel", names.release},
              {"boot_ms", boot_ms},
              {"network_error", network_error}};
}

Result<Json> Logs(Children& children, const Json& params) {
  const auto service = params.find("service");
  if (service == params.end() || !service->is_string()) {
    return Error(Errc::kInvalidArgument, "logs: service is missing");
  }
  const std::string name = service->get<std::string>();
  if (!children.Find(name)) return Error(Errc::kNotFound, "no service " + name);
  return Json{{"text", children.LogTail(name, kLogBytesMax)}};
}

RpcMethods MethodsOf(Supervisor& supervisor, Children& children, const std::string& network_error) {
  RpcMethods methods;
  methods["hello"] = [network_error, boot_ms = BootMs()](const Json&) -> Result<Json> {
    return Hello(network_error, boot_ms);
  };
  methods["configure"] = [&supervisor](const Json& params) { return supervisor.Configure(params); };
  methods["health"] = [&supervisor](const Json&) -> Result<Json> { return supervisor.Health(); };
  methods["logs"] = [&children](const Json& params) { return Logs(children, params); };
  methods["engine"] = RpcWaiting([&supervisor](const Json& params) -> Result<Json> {
    return CallEngine(FILER_TRY(supervisor.EngineSocket()), params);
  });
  methods["shutdown"] = [&supervisor](const Json&) -> Result<Json> {
    supervisor.RequestShutdown();
    return Json{{"state", "stopping"}};
  };
  return methods;
}

// Until a shutdown was asked for and is done.
void WaitUntilStopped(Supervisor& supervisor, Children& children) {
  while (!supervisor.IsStopped()) {
    if (stop_signal != 0) supervisor.RequestShutdown();
    std::this_thread::sleep_for(kTick);
    children.Reap();
  }
  // Whoever asked gets the answer before the channel goes.
  std::this_thread::sleep_for(kLastAnswer);
}

Result<void> ServePort(UniqueFd device, Supervisor& supervisor, Children& children,
                       const std::string& network_error) {
  PortServer server(std::move(device), MethodsOf(supervisor, children, network_error));
  std::thread serving([&server] {
    if (auto served = server.Run(); !served) FILER_LOG_ERROR("{}", served.error().message());
  });
  WaitUntilStopped(supervisor, children);
  server.Stop();
  serving.join();
  return Ok();
}

Result<void> RunAsInit() {
  Children children(true);
  BootOptions boot;
  boot.modules = {"virtio_console", "virtio_net", "fuse"};
  const BootOutcome outcome = FILER_TRY(BootGuest(boot, children));
  UniqueFd port = FILER_TRY(OpenAgentPort(kAgentPortName));
  FILER_LOG_INFO("filer-agent {} is up {} ms after the kernel's start", kVersion, BootMs());
  MachineOptions machine;
  machine.is_guest = true;
  machine.ganesha_program = "/nearmetal/bin/ganesha.nfsd";
  machine.library_path = "/nearmetal/lib";
  MachineControl control(machine, children);
  Supervisor supervisor(control);
  return ServePort(std::move(port), supervisor, children, outcome.network_error);
}

// The NFS server: as told, else that of the pinned build named by the environment.
void FindGanesha(const Options& options, MachineOptions& machine) {
  machine.library_path = options.library_path;
  machine.ganesha_program = options.ganesha;
  const char* pinned = std::getenv("FILER_GANESHA_DIR");
  if (!machine.ganesha_program.empty()) return;
  machine.ganesha_program = pinned == nullptr ? std::string("ganesha.nfsd")
                                              : std::string(pinned) + "/install/bin/ganesha.nfsd";
}

Result<void> RunOnHost(const Options& options) {
  // Samba's per-client processes that lose their parent come to us.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  Children children(false);
  MachineOptions machine;
  FindGanesha(options, machine);
  MachineControl control(machine, children);
  Supervisor supervisor(control);
  if (!options.port.empty()) {
    UniqueFd port(::open(options.port.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!port.is_open()) return Error::System(errno, "open " + options.port);
    return ServePort(std::move(port), supervisor, children, "");
  }
  const auto server =
      FILER_TRY(RpcServer::Listen(options.socket, MethodsOf(supervisor, children, "")));
  WaitUntilStopped(supervisor, children);
  return Ok();
}

Result<Options> ParseArguments(int argc, char** argv) {
  Options options;
  CLI::App app("Brings the filer's services up and down.");
  app.add_flag("--init", options.is_init, "first process of the guest");
  app.add_flag("--versions", options.wants_versions, "print versions as JSON");
  auto* port = app.add_option("--port", options.port, "serve on this character device");
  app.add_option("--socket", options.socket, "serve on this Unix socket (host)")->excludes(port);
  app.add_option("--ganesha", options.ganesha,
                 "the NFS server's program; default: that of $FILER_GANESHA_DIR");
  app.add_option("--library-path", options.library_path, "where its libraries are");
  app.add_option("--log-level", options.log_level, "debug, info, warn, error");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      app.exit(error);
      std::exit(0);
    }
    return Error(Errc::kUsage, error.what());
  }
  const bool has_channel = !options.port.empty() || !options.socket.empty();
  if (!options.is_init && !options.wants_versions && !has_channel) {
    return Error(Errc::kUsage, "one of --init, --port, --socket, --versions is needed");
  }
  return options;
}

int Main(int argc, char** argv) {
  const auto options = ParseArguments(argc, argv);
  if (!options) {
    std::fprintf(stderr, "filer-agent: %s\n", options.error().message().c_str());
    return 2;
  }
  if (options.value().wants_versions) {
    std::printf("%s\n", VersionsJson().dump().c_str());
    return 0;
  }
  InitLog("filer-agent", options.value().log_level);
  struct sigaction action {};
  action.sa_handler = OnSignal;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const Result<void> run = options.value().is_init ? RunAsInit() : RunOnHost(options.value());
  if (!run) {
    // In the guest stderr is the console, which the launcher shows.
    std::fprintf(stderr, "filer-agent: %s\n", run.error().message().c_str());
  }
  if (options.value().is_init && ::getpid() == 1) PowerOff();
  return run ? 0 : 1;
}

}  // namespace
}  // namespace filer::agent

int main(int argc, char** argv) { return filer::agent::Main(argc, argv); }
