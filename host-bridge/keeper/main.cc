// main.cc: bridge-keeper, the parent of host-bridge. `bridge-keeper --control SOCKET --ready SOCKET
// -- /path/of/host-bridge ARGUMENTS...`. Ends on SIGTERM or SIGINT, after the daemon. Methods:
// `status`, and `upgrade` {program}.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>

#include "base/json_rpc.h"
#include "base/log.h"
#include "host-bridge/keeper/keeper.h"

namespace filer::bridge {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

Result<int> Serve(const KeeperOptions& options, const std::string& control, int stop_fd) {
  auto keeper = FILER_TRY(Keeper::Create(options));
  RpcMethods methods;
  methods["status"] = [&](const Json&) -> Result<Json> {
    Json status = keeper->Status();
    status["keeper_pid"] = ::getpid();
    return status;
  };
  methods["upgrade"] = [&](const Json& params) -> Result<Json> {
    const auto program = params.find("program");
    if (program == params.end()) return keeper->RequestUpgrade("");
    if (!program->is_string()) return Error(Errc::kInvalidArgument, "program: not a string");
    return keeper->RequestUpgrade(program->get<std::string>());
  };
  auto server = FILER_TRY(RpcServer::Listen(control, std::move(methods)));
  return keeper->Run(stop_fd);
}

int Main(int argc, char** argv) {
  KeeperOptions options;
  std::string control;
  std::int64_t stable_ms = options.stable.count();
  CLI::App app("Keeps the bridge daemon running");
  app.add_option("--control", control, "Socket of the control channel")->required();
  app.add_option("--ready", options.ready_socket, "Control socket of the daemon")->required();
  app.add_option("--stable-ms", stable_ms, "An end before so long is an early one")
      ->check(CLI::Range(0, 3'600'000));
  app.add_option("command", options.command, "The daemon: -- /path ARGUMENTS...")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "bridge-keeper: {}\n", error.what());
    return kExitUsage;
  }
  options.stable = std::chrono::milliseconds(stable_ms);
  InitLog("bridge-keeper", "info");
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const UniqueFd stop(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!stop.is_open()) {
    fmt::print(stderr, "bridge-keeper: signalfd: {}\n", ::strerror(errno));
    return kExitFailed;
  }
  const auto served = Serve(options, control, stop.get());
  if (served.has_value()) return served.value();
  fmt::print(stderr, "bridge-keeper: {}\n", served.error().message());
  return kExitFailed;
}

}  // namespace
}  // namespace filer::bridge

int main(int argc, char** argv) { return filer::bridge::Main(argc, argv); }
