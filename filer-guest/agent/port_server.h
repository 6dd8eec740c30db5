// port_server.h: JSON-RPC on a character device: the guest's end of a virtio-serial port.
//
// The host connects and disconnects as it likes, and the news of that overtakes or follows the
// bytes (it travels on a queue of its own): so nothing that was read is dropped on a hang-up,
// clients end what others left unfinished with an empty line of their own, and an answer waits a
// second for somebody to take it. Lines are bounded by kRpcLineBytesMax: the rest of a longer one
// is skipped and answered with an error. Methods that may wait run beside the others: their answers
// come when they come, also to a client that has come since; clients look at the id.
#pragma once

#include <atomic>
#include <string>

#include "base/file.h"
#include "base/json_rpc.h"
#include "base/thread_annotations.h"

namespace filer::agent {

// Splits a stream into lines of bounded length. Pure; one thread.
class LineSplitter {
 public:
  explicit LineSplitter(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}
  struct Line {
    std::string text;
    bool is_too_long = false;  // text is empty then
  };
  void Add(const char* data, std::size_t size) { pending_.append(data, size); }
  // The next whole line, without its newline. False: more input is needed.
  bool Next(Line& line);

 private:
  const std::size_t line_bytes_max_;
  std::string pending_;
  bool is_skipping_ = false;
};

class PortServer {
 public:
  // `device` is opened read-write by the caller.
  PortServer(UniqueFd device, RpcMethods methods)
      : device_(std::move(device)), methods_(std::move(methods)), workers_(kWorkers, kCallsMax) {}
  // Serves until Stop. Errors: kSystem (the port broke).
  Result<void> Run();
  // From any thread; Run returns within a fifth of a second.
  void Stop() { is_stopping_.store(true, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kWorkers = 2;
  static constexpr std::size_t kCallsMax = 8;

  Result<bool> ReadSome(LineSplitter& splitter);
  void Answer(const std::string& response) FILER_EXCLUDES(answer_mutex_);

  UniqueFd device_;
  const RpcMethods methods_;
  std::atomic<bool> is_stopping_{false};  // relaxed: a flag alone, nothing is published by it
  Mutex answer_mutex_;                    // one line after the other
  RpcWorkers workers_;                    // last: they use the others
};

}  // namespace filer::agent
