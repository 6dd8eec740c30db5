#include "host-bridge/target/peer_log.h"

#include <fmt/format.h>

#include "base/log.h"

namespace filer::bridge {

std::string PeerLog::Line(std::string_view text) {
  if (!budget_.Take()) {
    ++left_out_;
    return {};
  }
  ++written_;
  std::string line = fmt::format("volume {}: {}", volume_name_, text);
  if (left_out_ > 0) line += fmt::format(" (and {} lines that were left out)", left_out_);
  left_out_ = 0;
  return line;
}

void PeerLog::Info(std::string_view text) {
  if (const std::string line = Line(text); !line.empty()) FILER_LOG_INFO("{}", line);
}

void PeerLog::Warn(std::string_view text) {
  if (const std::string line = Line(text); !line.empty()) FILER_LOG_WARN("{}", line);
}

}  // namespace filer::bridge
