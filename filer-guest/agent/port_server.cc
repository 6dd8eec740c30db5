#include "filer-guest/agent/port_server.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/log.h"

namespace filer::agent {
namespace {

constexpr int kPollMs = 200;
constexpr std::chrono::milliseconds kDisconnectedPause{20};
constexpr std::chrono::milliseconds kAnswerTimeout{1'000};
constexpr std::size_t kReadBytes = 16 * 1024;

}  // namespace

bool LineSplitter::Next(Line& line) {
  const std::size_t newline = pending_.find('\n');
  if (newline == std::string::npos) {
    if (pending_.size() > line_bytes_max_) {
      is_skipping_ = true;
      pending_.clear();
    }
    return false;
  }
  line.is_too_long = is_skipping_ || newline > line_bytes_max_;
  line.text = line.is_too_long ? std::string() : pending_.substr(0, newline);
  pending_.erase(0, newline + 1);
  is_skipping_ = false;
  return true;
}

// True if something came; false while nobody is connected or nothing is said.
Result<bool> PortServer::ReadSome(LineSplitter& splitter) {
  pollfd ready{device_.get(), POLLIN, 0};
  const int count = ::poll(&ready, 1, kPollMs);
  if (count < 0 && errno != EINTR) return Error::System(errno, "poll the agent's port");
  if (count <= 0) return false;
  if ((ready.revents & POLLHUP) != 0 && (ready.revents & POLLIN) == 0) {
    std::this_thread::sleep_for(kDisconnectedPause);
    return false;
  }
  char buffer[kReadBytes];
  const ssize_t got = ::read(device_.get(), buffer, sizeof(buffer));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got < 0) return Error::System(errno, "read the agent's port");
  if (got == 0) {
    std::this_thread::sleep_for(kDisconnectedPause);
    return false;
  }
  splitter.Add(buffer, static_cast<std::size_t>(got));
  return true;
}

void PortServer::Answer(const std::string& response) {
  if (response.empty()) return;
  const MutexLock lock(answer_mutex_);
  const std::string line = response + "\n";
  const auto deadline = std::chrono::steady_clock::now() + kAnswerTimeout;
  std::size_t sent = 0;
  while (sent < line.size() && std::chrono::steady_clock::now() < deadline) {
    pollfd ready{device_.get(), POLLOUT, 0};
    if (::poll(&ready, 1, kPollMs) <= 0) continue;
    if ((ready.revents & POLLHUP) != 0) {
      std::this_thread::sleep_for(kDisconnectedPause);
      continue;
    }
    const ssize_t done = ::write(device_.get(), line.data() + sent, line.size() - sent);
    if (done > 0) sent += static_cast<std::size_t>(done);
    if (done < 0 && errno != EAGAIN && errno != EINTR) return;
  }
}

Result<void> PortServer::Run() {
  LineSplitter splitter(kRpcLineBytesMax);
  LineSplitter::Line line;
  while (!is_stopping_.load(std::memory_order_relaxed)) {
    if (!FILER_TRY(ReadSome(splitter))) continue;
    while (splitter.Next(line)) {
      // Clients send an empty line first, to end what another one had left unfinished.
      if (line.text.empty() && !line.is_too_long) continue;
      RpcRequest request = RpcParse(methods_, line.is_too_long ? "too long" : line.text);
      if (request.method == nullptr || !request.method->may_wait) {
        Answer(RpcRun(request));
      } else {
        workers_.Run(std::move(request), [this](const std::string& response) { Answer(response); });
      }
    }
  }
  return Ok();
}

}  // namespace filer::agent
