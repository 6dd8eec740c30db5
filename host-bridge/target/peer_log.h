// peer_log.h: log lines that a peer can cause, as often as it likes. Some of them are written, then
// one every few seconds, which says how many were not: a hostile guest fills no disk of the host.
// Threads: its volume's poller.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "host-bridge/target/budget.h"
#include "host-bridge/target/limits.h"

namespace filer::bridge {

class PeerLog {
 public:
  explicit PeerLog(std::string volume_name, const Clock& clock = SystemClock())
      : volume_name_(std::move(volume_name)), budget_(kPeerLogLines, kPeerLogLineNs, clock) {}

  void Info(std::string_view text);
  void Warn(std::string_view text);
  std::uint64_t written() const { return written_; }

 private:
  // The line as it is to be written, or empty.
  std::string Line(std::string_view text);

  std::string volume_name_;
  Budget budget_;
  std::uint64_t left_out_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace filer::bridge
