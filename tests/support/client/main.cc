// client-agent: first process of the test client's guest (build-image --flavor client). Boots like
// the filer's agent, loads the kernel's NFS and CIFS clients, and runs shell scripts for the tests:
// hello, run, outcome, kill, shutdown.
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/log.h"
#include "filer-guest/agent/guest_boot.h"
#include "filer-guest/agent/port_server.h"
#include "filer-guest/agent/version.h"
#include "tests/support/client/script_runner.h"

namespace filer::test {
namespace {

constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::milliseconds kLastAnswer{200};

Result<void> Serve() {
  agent::Children children(true);
  agent::BootOptions boot;
  boot.modules = {"virtio_console", "virtio_net", "nfsv3", "nfsv4", "cifs", "loop"};
  const agent::BootOutcome outcome = FILER_TRY(agent::BootGuest(boot, children));
  UniqueFd port = FILER_TRY(agent::OpenAgentPort(agent::kAgentPortName));
  const std::int64_t boot_ms = agent::BootMs();
  ScriptRunner runner(children, "/run");
  std::atomic<bool> is_stopping{false};  // sequentially consistent: once per life
  RpcMethods methods;
  methods["hello"] = [&outcome, boot_ms](const Json&) -> Result<Json> {
    utsname names{};
    ::uname(&names);
    return Json{{"version", agent::kVersion},
                {"kernel", names.release},
                {"boot_ms", boot_ms},
                {"network_error", outcome.network_error}};
  };
  methods["run"] = [&runner](const Json& params) { return runner.Run(params); };
  methods["outcome"] = [&runner](const Json&) { return runner.Outcome(); };
  methods["kill"] = [&runner](const Json&) { return runner.Kill(); };
  methods["shutdown"] = [&is_stopping](const Json&) -> Result<Json> {
    is_stopping = true;
    return Json{{"state", "stopping"}};
  };
  agent::PortServer server(std::move(port), methods);
  std::thread serving([&server] {
    if (auto served = server.Run(); !served) FILER_LOG_ERROR("{}", served.error().message());
  });
  while (!is_stopping) {
    std::this_thread::sleep_for(kTick);
    children.Reap();
  }
  std::this_thread::sleep_for(kLastAnswer);
  server.Stop();
  serving.join();
  return Ok();
}

}  // namespace
}  // namespace filer::test

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--versions") == 0) {
    std::printf("%s\n", filer::agent::VersionsJson().dump().c_str());
    return 0;
  }
  if (::getpid() != 1) {
    std::fprintf(stderr, "client-agent: runs as the first process of a guest only\n");
    return 2;
  }
  filer::InitLog("client-agent");
  ::signal(SIGPIPE, SIG_IGN);
  if (auto served = filer::test::Serve(); !served) {
    std::fprintf(stderr, "client-agent: %s\n", served.error().message().c_str());
  }
  filer::agent::PowerOff();
}
