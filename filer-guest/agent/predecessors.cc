#include "filer-guest/agent/predecessors.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/log.h"

namespace filer::agent {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{10};

// An argument that begins with the folder, or has it behind "=". Not just anywhere: /jail/run/f is
// another filer's.
bool NamesFileBelow(const std::string& command, const std::string& run_dir) {
  const std::string folder = run_dir + "/";
  for (std::size_t at = command.find(folder); at != std::string::npos;
       at = command.find(folder, at + 1)) {
    if (at == 0 || command[at - 1] == '\0' || command[at - 1] == '=') return true;
  }
  return false;
}

bool IsOurServer(const std::string& pid, const std::string& run_dir) {
  const auto name = ReadWholeFile("/proc/" + pid + "/comm");
  if (!name || (name.value() != "ganesha.nfsd\n" && name.value() != "smbd\n")) return false;
  const auto command = ReadWholeFile("/proc/" + pid + "/cmdline");
  return command && NamesFileBelow(command.value(), run_dir);
}

}  // namespace

std::vector<ProcessId> FindPredecessors(const std::string& run_dir) {
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

Result<EndedPredecessors> EndPredecessors(const std::string& run_dir,
                                          std::chrono::milliseconds grace) {
  const std::vector<ProcessId> servers = FindPredecessors(run_dir);
  EndedPredecessors ended{.count = servers.size()};
  for (const ProcessId& server : servers) {
    FILER_LOG_INFO("ending process {}, which a killed agent left behind", server.pid);
    ::kill(server.pid, SIGTERM);
  }
  const auto deadline = Clock::now() + grace;
  for (const ProcessId& server : servers) {
    while (IsRunning(server) && Clock::now() < deadline) std::this_thread::sleep_for(kPoll);
    if (IsRunning(server)) {
      FILER_LOG_INFO("process {} did not end in time and is killed", server.pid);
      ::kill(server.pid, SIGKILL);
      ++ended.killed_count;
    }
    FILER_TRY(StopProcess(server, grace));  // waits for one on its way out, too
  }
  return ended;
}

}  // namespace filer::agent
