// filer-mount: mounts a volume on this machine, without NFS or SMB. For tests and administrators.
//   filer-mount DEVICE MOUNTPOINT [--foreground] [--read-only] [--page-cache] [--memory-mb N]
//              [--control SOCKET]
// DEVICE: file:/path/volume.img, vhost_user:/path.sock, pci:... (fsal/engine/device/open_device.h).
// Returns when the mount serves (exit code 0) or failed (1, one line on stderr; 2 for usage);
// SIGTERM, SIGINT, or an unmount by anybody ends it cleanly.
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "fsal/engine-control/control.h"
#include "fsal/engine/device/open_device.h"
#include "fsal/engine/engine.h"
#include "fsal/posix-door/door.h"

namespace filer {
namespace {

struct Arguments {
  std::string device;
  std::string mount_point;
  bool is_foreground = false;
  bool is_read_only = false;
  bool uses_page_cache = false;
  std::uint64_t memory_mb = 256;
  std::string control;  // socket; empty: none
};

// Tells whoever started us that the mount serves: at once in the foreground, through a pipe
// otherwise.
class StartReport {
 public:
  explicit StartReport(UniqueFd pipe) : pipe_(std::move(pipe)) {}
  void Ready() { Send('+', ""); }
  void Failed(const std::string& message) {
    if (pipe_.is_open()) {
      Send('-', message);
    } else {
      fmt::print(stderr, "filer-mount: {}\n", message);
    }
  }

 private:
  void Send(char kind, const std::string& message) {
    if (!pipe_.is_open()) return;
    const std::string text = kind + message;
    static_cast<void>(!write(pipe_.get(), text.data(), text.size()));
    pipe_.Reset();
  }
  UniqueFd pipe_;
};

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

Result<void> Serve(const Arguments& arguments, StartReport& report) {
  engine::OpenDeviceOptions device_options;
  device_options.memory_bytes = arguments.memory_mb << 20;
  device_options.is_read_only = arguments.is_read_only;
  auto opened = FILER_TRY(engine::OpenVolumeDevice(arguments.device, device_options));

  engine::MountOptions mount_options;
  mount_options.read_only = arguments.is_read_only;
  auto engine = FILER_TRY(engine::Engine::Mount(*opened.device, SystemClock(), mount_options));
  {
    std::unique_ptr<control::ControlServer> control;  // gone before the volume is unmounted
    if (!arguments.control.empty()) {
      control = FILER_TRY(control::ControlServer::Listen(arguments.control,
                                                         {[&engine] { return engine.get(); }, {}}));
    }
    posix_door::PosixDoorOptions options;
    options.is_read_only = arguments.is_read_only;
    options.uses_page_cache = arguments.uses_page_cache;
    options.on_end = [] { kill(getpid(), SIGTERM); };
    const auto door =
        FILER_TRY(posix_door::PosixDoor::Mount(*engine, arguments.mount_point, options));
    FILER_LOG_INFO("{} is mounted on {}", arguments.device, arguments.mount_point);
    report.Ready();
    const sigset_t signals = EndSignals();
    int signal = 0;
    sigwait(&signals, &signal);
    FILER_LOG_INFO("signal {}: unmounting {}", signal, arguments.mount_point);
  }
  return engine->Unmount();
}

int ServeAndReport(const Arguments& arguments, UniqueFd pipe) {
  StartReport report(std::move(pipe));
  const auto served = Serve(arguments, report);
  if (served.has_value()) return 0;
  report.Failed(served.error().message());
  return 1;
}

// The parent's part: waits for the child's report. The child is forked before any thread exists.
int WaitForChild(UniqueFd pipe) {
  std::string text;
  char buffer[1024];
  ssize_t got = 0;
  while ((got = read(pipe.get(), buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
  }
  if (text == "+") return 0;
  fmt::print(stderr, "filer-mount: {}\n",
             text.empty() ? "the process ended before the mount was there" : text.substr(1));
  return 1;
}

int RunInBackground(const Arguments& arguments) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    fmt::print(stderr, "filer-mount: no pipe\n");
    return 1;
  }
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) {
    fmt::print(stderr, "filer-mount: no new process\n");
    return 1;
  }
  if (pid > 0) {
    writer.Reset();
    return WaitForChild(std::move(reader));
  }
  reader.Reset();
  setsid();
  static_cast<void>(chdir("/"));
  // Whoever waits for our output to end must not wait for the mount to end.
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
  return ServeAndReport(arguments, std::move(writer));
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Mounts a Nearmetal volume on this machine", "filer-mount");
  app.add_option("device", arguments.device, "file:PATH, vhost_user:SOCKET or pci:ADDRESS")
      ->required();
  app.add_option("mountpoint", arguments.mount_point, "folder; made if missing")->required();
  app.add_flag("--foreground", arguments.is_foreground, "stay, and log to stderr");
  app.add_flag("--read-only", arguments.is_read_only, "change nothing on the volume");
  app.add_flag("--page-cache", arguments.uses_page_cache,
               "let the kernel cache data: shared mappings work; only without other doors");
  app.add_option("--memory-mb", arguments.memory_mb, "for buffers and caches")
      ->check(CLI::Range(64, 1 << 20));
  app.add_option("--control", arguments.control,
                 "answer questions about the volume on this Unix socket (JSON-RPC)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  std::error_code no_throw;
  arguments.mount_point = std::filesystem::absolute(arguments.mount_point, no_throw).string();
  if (!arguments.control.empty()) {
    arguments.control = std::filesystem::absolute(arguments.control, no_throw).string();
  }

  // Before any thread starts, so that all of them leave these signals to sigwait.
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  InitLog("filer-mount", arguments.is_foreground ? "info" : "warn");
  return arguments.is_foreground ? ServeAndReport(arguments, UniqueFd())
                                 : RunInBackground(arguments);
}

}  // namespace
}  // namespace filer

int main(int argc, char** argv) { return filer::Main(argc, argv); }
