// control.h: the control channel of an engine: JSON-RPC on a Unix socket of its process (mode
// 0600), served beside whatever door the process has. methods.cc has the table of what it answers;
// the process may add methods of its own.
//
// A method that answers from memory runs on the channel's own thread; one that may wait for the
// volume has `may_wait` and runs beside it, so that the others are answered while it does. What
// takes longer than some seconds is started by one method (X.start) and asked by another
// (X.status): whoever waits on the way from `filer` has a deadline.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"
#include "fsal/engine-control/params.h"
#include "fsal/engine/engine.h"

namespace filer::control {

struct ControlMethod {
  std::string name;  // "noun.verb"
  std::vector<ParamSpec> params;
  // The result, an object. Errors go to the caller with their cause and message.
  Result<Json> (*run)(engine::Engine& engine, const Params& params);
  bool may_wait = false;
};
// methods.cc.
const std::vector<ControlMethod>& EngineMethods();

// What is served. The functions are called on any thread of the channel until it is gone.
struct ControlTarget {
  std::function<engine::Engine*()> engine;  // null: there is none (yet)
  std::function<std::string()> why_none;    // in words; may be empty
};

class ControlServer {
 public:
  // `own`: methods of this process; their names win. Errors: kBusy if somebody answers on the
  // socket, kSystem.
  static Result<std::unique_ptr<ControlServer>> Listen(const std::string& socket_path,
                                                       ControlTarget target, RpcMethods own = {});
  // Waits for the methods that run. The engine must live until then.
  ~ControlServer();

 private:
  explicit ControlServer(std::unique_ptr<RpcServer> server);
  std::unique_ptr<RpcServer> server_;
};

// The methods of the table, bound to a target; `methods` lists them.
RpcMethods BindMethods(const std::vector<ControlMethod>& table, const ControlTarget& target);

}  // namespace filer::control
