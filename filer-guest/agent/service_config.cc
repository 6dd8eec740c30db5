// Parameters of `configure`: bounded, checked, or refused.
#include <algorithm>

#include "filer-guest/agent/supervisor.h"

namespace filer::agent {
namespace {

constexpr std::size_t kExportsMax = 256;
constexpr std::size_t kPortsMax = 8;
constexpr std::size_t kPathBytesMax = 1024;
constexpr std::uint32_t kMemoryMbMin = 32;
constexpr std::uint32_t kMemoryMbMax = 1 << 20;

Error Bad(const std::string& name, const std::string& why) {
  return Error(Errc::kInvalidArgument, "configure: " + name + " " + why);
}

Result<std::string> Text(const Json& params, const std::string& name, bool is_required) {
  const auto found = params.find(name);
  if (found == params.end() || found->is_null()) {
    if (is_required) return Bad(name, "is missing");
    return std::string();
  }
  if (!found->is_string()) return Bad(name, "is not text");
  std::string text = found->get<std::string>();
  if (text.find('\0') != std::string::npos) return Bad(name, "holds a NUL");
  return text;
}

bool IsCleanPath(const std::string& path) {
  if (path.empty() || path[0] != '/' || path.size() > kPathBytesMax) return false;
  if (path.find("/../") != std::string::npos || path.ends_with("/..")) return false;
  return std::none_of(path.begin(), path.end(), [](char c) { return c == '\n' || c == '"'; });
}

Result<std::string> Path(const Json& params, const std::string& name, const std::string& fallback) {
  std::string path = FILER_TRY(Text(params, name, false));
  if (path.empty()) path = fallback;
  if (!IsCleanPath(path)) return Bad(name, "is no absolute path: " + path);
  return path;
}

Result<ExportDirectory> Directory(const Json& entry) {
  if (!entry.is_object()) return Bad("export_directories", "has an entry that is no object");
  ExportDirectory directory;
  directory.path = FILER_TRY(Path(entry, "path", ""));
  const auto mode = entry.find("mode");
  if (mode == entry.end()) return directory;
  if (!mode->is_number_unsigned() || mode->get<std::uint64_t>() > 07777) {
    return Bad("export_directories", "has a mode that is none");
  }
  directory.mode = mode->get<std::uint32_t>();
  return directory;
}

}  // namespace

Result<ServiceConfig> ParseServiceConfig(const Json& params) {
  ServiceConfig config;
  config.device = FILER_TRY(Text(params, "device", true));
  config.ganesha_conf = FILER_TRY(Text(params, "ganesha_conf", true));
  config.smb_conf = FILER_TRY(Text(params, "smb_conf", false));
  config.smb_user = FILER_TRY(Text(params, "smb_user", !config.smb_conf.empty()));
  config.smb_password = FILER_TRY(Text(params, "smb_password", !config.smb_conf.empty()));
  config.run_dir = FILER_TRY(Path(params, "run_dir", ""));
  config.status_socket = FILER_TRY(Path(params, "status_socket", config.run_dir + "/engine.sock"));
  config.posix_door = FILER_TRY(Path(params, "posix_door", config.run_dir + "/door"));
  const auto memory = params.find("memory_mb");
  if (memory != params.end()) {
    if (!memory->is_number_unsigned() || memory->get<std::uint64_t>() < kMemoryMbMin ||
        memory->get<std::uint64_t>() > kMemoryMbMax) {
      return Bad("memory_mb", "is out of range");
    }
    config.memory_mb = memory->get<std::uint32_t>();
  }
  const Json ports = params.value("ports", Json::array());
  if (!ports.is_array() || ports.size() > kPortsMax) return Bad("ports", "is no list of at most 8");
  for (const Json& port : ports) {
    if (!port.is_number_unsigned() || port == 0 || port.get<std::uint64_t>() > UINT16_MAX) {
      return Bad("ports", "has an entry that is no port");
    }
    config.ports.push_back(port.get<std::uint16_t>());
  }
  const Json directories = params.value("export_directories", Json::array());
  if (!directories.is_array() || directories.size() > kExportsMax) {
    return Bad("export_directories", "is no list of at most 256");
  }
  for (const Json& entry : directories) {
    config.export_directories.push_back(FILER_TRY(Directory(entry)));
  }
  return config;
}

}  // namespace filer::agent
