#include <fmt/format.h>
#include <fmt/ranges.h>

#include "configs/render.h"
#include "configs/syntax.h"

namespace filer::configs {
namespace {

// A double-quoted string of Ganesha's scanner. It knows backslash escapes, so both are refused, as
// is everything that is not on one line.
Result<std::string> Quoted(std::string_view what, std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '"' || c == '\\') {
      return Error(Errc::kInvalidArgument,
                   fmt::format("{} holds a character that ganesha.conf cannot carry; use letters, "
                               "digits, '/', '.', '_' and '-'",
                               what));
    }
  }
  if (text.empty()) return Error(Errc::kInvalidArgument, fmt::format("{} is empty", what));
  return fmt::format("\"{}\"", text);
}

std::string_view GaneshaSquash(Squash squash) {
  switch (squash) {
    case Squash::kRoot:
      return "Root_Squash";
    case Squash::kNone:
      return "No_Root_Squash";
    case Squash::kAll:
      return "All_Squash";
  }
  return "All_Squash";
}

Result<std::string> RenderCore(const NfsConfig& nfs, const RunPaths& paths) {
  const std::string address = FILER_TRY(ParseAddress(nfs.address));
  return fmt::format(
      R"(NFS_CORE_PARAM {{
  Protocols = 3, 4;
  Bind_addr = {address};
  NFS_Port = {port};
  # There is no rpcbind: NFSv3 clients are told this port, and lock nothing (no NLM: it needs rpcbind).
  MNT_Port = {mount_port};
  Enable_NLM = false;
  Enable_RQUOTA = false;
  Enable_UDP = false;
  # NFSv3 mounts by the same name as NFSv4.
  Mount_Path_Pseudo = true;
  Plugins_Dir = {plugins};
  Clustered = false;
  allow_set_io_flusher_fail = true;
}}

NFS_KRB5 {{
  Active_krb5 = false;
}}
)",
      fmt::arg("address", address), fmt::arg("port", nfs.port),
      fmt::arg("mount_port", nfs.mount_port),
      fmt::arg("plugins", FILER_TRY(Quoted("the plug-in folder", paths.plugins_dir))));
}

// Grace: after a restart, clients of before have this long to reclaim opens and locks, and nobody
// can take new ones. It may not be shorter than the lease, so a short lease is what makes restarts
// short; with no client to wait for, Ganesha ends it at once. Graceless would hand a lock to the
// first who asks. The clients of before are those in the recovery folder: it outlives the file
// server, but in a guest it is memory, so after the loss of a guest nobody can reclaim.
Result<std::string> RenderVersion4(const RunPaths& paths) {
  return fmt::format(
      R"(
NFSv4 {{
  Minor_Versions = 0, 1, 2;
  RecoveryBackend = fs;
  RecoveryRoot = {recovery};
  Lease_Lifetime = 20;
  Grace_Period = 20;
  Graceless = false;
  Delegations = false;
  # Owners travel as numbers, as in NFSv3: no name service is asked.
  Only_Numeric_Owners = true;
}}
)",
      fmt::arg("recovery", FILER_TRY(Quoted("the run folder", paths.run_dir + "/recovery"))));
}

Result<std::string> RenderModule(const RunPaths& paths) {
  std::string door;
  if (!paths.posix_door.empty()) {
    door =
        fmt::format("  Posix_Door = {};\n", FILER_TRY(Quoted("the POSIX door", paths.posix_door)));
  }
  return fmt::format(
      R"(
NEARMETAL {{
  Device = {device};
  Memory_MB = {memory};
  Huge_Pages = {huge};
{door}  Status_Socket = {status};
}}
)",
      fmt::arg("device", FILER_TRY(Quoted("the device", paths.device))),
      fmt::arg("memory", paths.engine_memory_mb),
      fmt::arg("huge", paths.huge_pages ? "true" : "false"), fmt::arg("door", door),
      fmt::arg("status", FILER_TRY(Quoted("the status socket", paths.status_socket))));
}

Result<std::string> RenderExport(const ExportConfig& one, std::uint16_t id) {
  std::string clients;
  if (!one.clients.empty()) {
    std::vector<std::string> rules;
    for (const std::string& client : one.clients) {
      rules.push_back(FILER_TRY(ParseClientRule(client)));
    }
    clients = fmt::format("  CLIENT {{\n    Clients = {};\n    Access_Type = {};\n  }}\n",
                          fmt::join(rules, ", "), one.read_only ? "RO" : "RW");
  }
  return fmt::format(
      R"(
EXPORT {{
  Export_Id = {id};
  Path = {path};
  Pseudo = {pseudo};
  # Who matches no CLIENT has no access.
  Access_Type = None;
  Protocols = 3, 4;
  Transports = TCP;
  SecType = sys;
  Squash = {squash};
  Anonymous_Uid = {uid};
  Anonymous_Gid = {gid};
  # Other doors change the same files: always ask the engine, which has them in memory anyway.
  Attr_Expiration_Time = 0;
  FSAL {{
    Name = NEARMETAL;
  }}
{clients}}}
)",
      fmt::arg("id", id), fmt::arg("path", FILER_TRY(Quoted("export path", one.path))),
      fmt::arg("pseudo", FILER_TRY(Quoted("export name", "/" + one.name))),
      fmt::arg("squash", GaneshaSquash(one.squash)), fmt::arg("uid", one.anonymous_uid),
      fmt::arg("gid", one.anonymous_gid), fmt::arg("clients", clients));
}

}  // namespace

Result<std::string> RenderGanesha(const ApplianceConfig& config, const RunPaths& paths) {
  std::string text = "# Written by filer from its configuration; changes here are lost.\n\n";
  text += FILER_TRY(RenderCore(config.nfs, paths));
  text += FILER_TRY(RenderVersion4(paths));
  text += FILER_TRY(RenderModule(paths));
  const std::vector<std::uint16_t> ids = ExportIds(config.exports);
  for (std::size_t i = 0; i < config.exports.size(); ++i) {
    if (config.exports[i].nfs) text += FILER_TRY(RenderExport(config.exports[i], ids[i]));
  }
  return text;
}

}  // namespace filer::configs
