// qmp.h: a client of QEMU's machine protocol over its Unix socket (Boost.Asio).
//
// The peer is not trusted to be quick, or well-formed: every call has a deadline, a line is at most
// kQmpLineBytesMax, events and answers to other ids are skipped (a bounded number of them). One
// thread at a time.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"

namespace filer::guest {

inline constexpr std::size_t kQmpLineBytesMax = 1 << 20;

class QmpClient {
 public:
  // Connects, takes the greeting, enters command mode. Errors: kNotRunning, kTimedOut, kProtocol.
  static Result<std::unique_ptr<QmpClient>> Connect(const std::string& socket_path,
                                                    std::chrono::milliseconds timeout);
  ~QmpClient();

  // The command's "return". Errors: kRefused with QEMU's words, kTimedOut, kDeviceGone, kProtocol.
  Result<Json> Execute(const std::string& command, const Json& arguments,
                       std::chrono::milliseconds timeout);

 private:
  struct State;
  explicit QmpClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Thread ids of the guest's processors, in order.
Result<std::vector<int>> CpuThreads(QmpClient& client, std::chrono::milliseconds timeout);

}  // namespace filer::guest
