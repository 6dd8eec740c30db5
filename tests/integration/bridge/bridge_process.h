// bridge_process.h: host-bridge under its keeper, in a temporary folder of its own, for one test.
// Both end with the test, however that ends.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "host-bridge/initiator/initiator.h"
#include "host-bridge/keeper/child.h"

namespace filer::bridge {

class BridgeProcess {
 public:
  BridgeProcess();
  ~BridgeProcess();  // stops it, removes the folder

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  // A sparse file in the folder.
  void MakeVolume(const std::string& name, std::uint64_t size_bytes) const;
  // host-bridge with these arguments besides --control, and as many pollers as FILER_TEST_POLLERS
  // in the environment says; returns when it serves.
  void Start(const std::vector<std::string>& arguments);
  // SIGTERM to the keeper; its exit status.
  int Stop();

  // Methods of the daemon and of the keeper. Throw when there is no answer.
  Json Call(const std::string& method, const Json& params = Json::object()) const;
  Json CallKeeper(const std::string& method, const Json& params = Json::object()) const;
  // Counters of the first volume.
  Json Counters() const { return Call("status")["volumes"][0]["counters"]; }
  pid_t Pid() const;  // of the daemon; waits until it serves

 private:
  std::string folder_;
  Child keeper_;
};

// Starts EAL with so much memory, once per process, and attaches.
std::unique_ptr<Disk> Attach(const std::string& socket_path, DiskOptions options);

}  // namespace filer::bridge
