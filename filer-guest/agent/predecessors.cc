#include "filer-guest/agent/predecessors.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

namespace filer::agent {
namespace {

bool IsOurServer(const std::string& pid, const std::string& run_dir) {
  const auto name = ReadWholeFile("/proc/" + pid + "/comm");
  if (!name || (name.value() != "ganesha.nfsd\n" && name.value() != "smbd\n")) return false;
  const auto command = ReadWholeFile("/proc/" + pid + "/cmdline");
  return command && command.value().find(run_dir + "/") != std::string::npos;
}

std::vector<ProcessId> FindServers(const std::string& run_dir) {
  std::vector<ProcessId> servers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto process = IdentifyProcess(std::atoi(pid.c_str()));
    if (process && IsOurServer(pid, run_dir)) servers.push_back(process.value());
  }
  return servers;
}

}  // namespace

Result<void> EndPredecessors(const std::string& run_dir, std::chrono::milliseconds grace) {
  const std::vector<ProcessId> servers = FindServers(run_dir);
  for (const ProcessId& server : servers) {
    FILER_LOG_INFO("ending process {}, which a killed agent left behind", server.pid);
    ::kill(server.pid, SIGTERM);
  }
  for (const ProcessId& server : servers) FILER_TRY(StopProcess(server, grace));
  return Ok();
}

}  // namespace filer::agent
