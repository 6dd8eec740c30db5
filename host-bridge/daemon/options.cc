#include "host-bridge/daemon/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "host-bridge/target/limits.h"

namespace filer::bridge {
namespace {

constexpr int kCpuMax = 1023;

Error Usage(std::string_view text, std::string what) {
  return Error(Errc::kUsage, fmt::format("--volume {}: {}", text, what));
}

bool ParseSize(std::string_view text, std::uint64_t& bytes) {
  unsigned shift = 0;
  if (!text.empty()) {
    constexpr std::string_view kUnits = "KMGT";
    const auto unit = kUnits.find(text.back());
    if (unit != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      text.remove_suffix(1);
    }
  }
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return false;
  if (value > UINT64_MAX >> shift) return false;
  bytes = value << shift;
  return true;
}

Result<void> Apply(std::string_view text, std::string_view key, std::string_view value,
                   VolumeSpec& spec) {
  if (key == "name") {
    spec.name = value;
  } else if (key == "backend") {
    spec.backend = value;
  } else if (key == "path") {
    spec.path = value;
  } else if (key == "socket") {
    spec.socket = value;
  } else if (key == "size") {
    if (!ParseSize(value, spec.size_bytes)) {
      return Usage(text, fmt::format("size \"{}\" is no number of bytes", value));
    }
  } else if (key == "iops" || key == "bps") {
    std::uint64_t& limit = key == "iops" ? spec.limits.requests_per_s : spec.limits.bytes_per_s;
    if (!ParseSize(value, limit)) {
      return Usage(text, fmt::format("{} \"{}\" is no number", key, value));
    }
  } else if (key == "readonly") {
    if (value != "on" && value != "off") return Usage(text, "readonly is on or off");
    spec.is_read_only = value == "on";
  } else {
    return Usage(text, fmt::format("unknown key \"{}\"", key));
  }
  return Ok();
}

}  // namespace

Result<VolumeSpec> ParseVolumeSpec(std::string_view text) {
  VolumeSpec spec;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) {
      return Usage(text, fmt::format("\"{}\" is not key=value", item));
    }
    FILER_TRY(Apply(text, item.substr(0, equals), item.substr(equals + 1), spec));
  }
  if (spec.name.empty()) return Usage(text, "name= is missing");
  if (spec.socket.empty()) return Usage(text, "socket= is missing");
  if (spec.backend == "file") {
    if (spec.path.empty()) return Usage(text, "path= is missing");
  } else if (spec.backend == "memory" || spec.backend == "null") {
    if (spec.size_bytes == 0) return Usage(text, "size= is missing");
    if (spec.is_read_only) return Usage(text, "readonly=on needs backend=file");
  } else {
    return Usage(text, fmt::format("backend \"{}\" is none of file, memory, null", spec.backend));
  }
  return spec;
}

Result<std::vector<int>> ParseCpuList(std::string_view text) {
  std::vector<int> cpus;
  std::string_view rest = text;
  while (true) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    int cpu = -1;
    const auto parsed = std::from_chars(item.data(), item.data() + item.size(), cpu);
    const bool is_number = parsed.ec == std::errc() && parsed.ptr == item.data() + item.size();
    if (!is_number || cpu < 0 || cpu > kCpuMax) {
      return Error(Errc::kUsage, fmt::format("--cpu {}: \"{}\" is no core; write 1, or 1,3 for two "
                                             "pollers",
                                             text, item));
    }
    if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
      return Error(Errc::kUsage, fmt::format("--cpu {}: core {} is named twice", text, cpu));
    }
    cpus.push_back(cpu);
    if (cpus.size() > kPollerCountMax) {
      return Error(Errc::kUsage, fmt::format("--cpu {}: one bridge has {} pollers at most", text,
                                             kPollerCountMax));
    }
    if (comma == std::string_view::npos) return cpus;
    rest = rest.substr(comma + 1);
  }
}

Result<std::uint32_t> PollerCount(const DaemonOptions& options) {
  const auto cpu_count = static_cast<std::uint32_t>(options.cpus.size());
  if (options.poller_count == 0) return std::max(cpu_count, 1U);
  if (cpu_count != 0 && cpu_count != options.poller_count) {
    return Error(Errc::kUsage, fmt::format("--pollers {} with {} cores in --cpu; one core each",
                                           options.poller_count, cpu_count));
  }
  return options.poller_count;
}

}  // namespace filer::bridge
