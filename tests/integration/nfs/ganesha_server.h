// ganesha_server.h: a ganesha.nfsd of its own with our plug-in on a temporary volume and free ports
// of 127.0.0.1; stopped, and its folder removed, by the destructor.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::test {

struct ServerExport {
  int id = 1;
  std::string path = "/";
  std::string pseudo = "/share";
  std::string options;  // more lines for the EXPORT block
};

class GaneshaServer {
 public:
  // Makes the folder and a formatted volume of `volume_bytes`; starts nothing.
  static Result<std::unique_ptr<GaneshaServer>> Create(std::uint64_t volume_bytes = 1ULL << 30);
  ~GaneshaServer();

  void SetExports(std::vector<ServerExport> exports) { exports_ = std::move(exports); }
  // More lines for the NEARMETAL block.
  void SetModuleOptions(std::string lines) { module_options_ = std::move(lines); }

  // Writes ganesha.conf, starts the server, waits until it answers. Errors: kTimedOut with the end
  // of the server's log.
  Result<void> Start();
  // Writes ganesha.conf again and sends SIGHUP.
  Result<void> Reload();
  void KillHard();  // SIGKILL, and waits
  Result<int> Terminate(
      int seconds);  // SIGTERM; the exit code, 128 + signal if a signal ended it. Errors: kTimedOut

  Result<Json> Call(const std::string& method, const Json& params) const;
  Result<Json> Status() const { return Call("status", Json::object()); }
  // Offline.
  Result<engine::CheckReport> Check() const;

  bool IsRunning() const { return pid_ > 0; }
  std::string Url(int version, const std::string& pseudo = "/share") const;
  int port() const { return port_; }
  const std::string& folder() const { return folder_; }
  std::string Log() const;

 private:
  GaneshaServer() = default;
  Result<void> WriteConfiguration() const;
  Result<void> WaitUntilReady();
  bool Reap(int seconds);

  std::string folder_;
  std::string module_options_;
  std::vector<ServerExport> exports_{ServerExport{}};
  int port_ = 0;
  int mount_port_ = 0;
  pid_t pid_ = 0;
  int exit_code_ = 0;
};

}  // namespace filer::test
