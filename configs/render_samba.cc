#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cctype>

#include "configs/render.h"
#include "configs/syntax.h"

namespace filer::configs {
namespace {

// A path as the value of a setting. WhyNotPath refuses line ends, a blank at the end, and '%',
// which Samba would expand.
Result<std::string> PathValue(std::string_view what, const std::string& path) {
  if (const auto why = WhyNotPath(path)) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("{} \"{}\" cannot stand in smb.conf: {}", what, path, *why));
  }
  return path;
}

// At most 15 letters, digits and '-' (RFC 1001); only a label here, NetBIOS itself is off.
std::string NetbiosName(const std::string& name) {
  std::string label;
  for (const char c : name.substr(0, 15)) {
    const auto byte = static_cast<unsigned char>(c);
    label += std::isalnum(byte) != 0 ? static_cast<char>(std::toupper(byte)) : '-';
  }
  return label;
}

std::string RenderListen(const SmbConfig& smb, const std::string& address) {
  const bool is_any = address == "0.0.0.0" || address == "::";
  std::string text = fmt::format("  smb ports = {}\n", smb.port);
  if (!is_any) text += fmt::format("  interfaces = {}\n  bind interfaces only = yes\n", address);
  return text;
}

Result<std::string> RenderGlobal(const ApplianceConfig& config, const RunPaths& paths) {
  if (!IsName(config.name)) return Error(Errc::kInvalidArgument, "appliance name is not usable");
  const std::string address = FILER_TRY(ParseAddress(config.smb.address));
  return fmt::format(
      R"([global]
  server role = standalone server
  workgroup = WORKGROUP
  netbios name = {netbios}
  server string = {name}
  disable netbios = yes
{listen}  max smbd processes = 256

  # SMB 2.1 and later, signed, one account, no guest.
  server min protocol = SMB2_10
  server signing = mandatory
  map to guest = never
  restrict anonymous = 2
  # The account is Samba's own, in the private folder below. It stands for the Unix account "{unix_user}",
  # because smbd needs one that exists and the filer adds none to the machine; NFS clients without an
  # identity get the same. The guest account must be another, or "{unix_user}" would log in as a guest.
  passdb backend = tdbsam:{base}/private/passdb.tdb
  username map = {base}/users.map
  guest account = daemon
  unix password sync = no
  obey pam restrictions = no

  # The files are served over NFS at the same time, by the same engine. What an SMB client may cache
  # without asking would not see NFS writes, so it is given no oplocks or leases; the kernel cannot
  # watch the files for us either (FUSE has no leases, and no notification for changes by NFS).
  smb2 leases = no
  kernel change notify = no

  # Everything that smbd writes is in one folder.
  private dir = {base}/private
  lock directory = {base}/lock
  state directory = {base}/state
  cache directory = {base}/cache
  pid directory = {base}/pid
  ncalrpc dir = {base}/ncalrpc
  binddns dir = {base}/private
  usershare max shares = 0
  logging = file
  log file = {base}/log.smbd
  max log size = 10000
  log level = 1

  load printers = no
  printing = bsd
  printcap name = /dev/null
  disable spoolss = yes
)",
      fmt::arg("netbios", NetbiosName(config.name)), fmt::arg("name", config.name),
      fmt::arg("listen", RenderListen(config.smb, address)), fmt::arg("unix_user", kSmbUnixUser),
      fmt::arg("base", FILER_TRY(PathValue("the run folder", paths.run_dir)) + "/samba"));
}

// Samba lets this machine itself in unless it is denied by a rule, so "ALL" is.
Result<std::string> RenderClients(const ExportConfig& one) {
  std::vector<std::string> rules;
  for (const std::string& client : one.clients) {
    const std::string rule = FILER_TRY(ParseClientRule(client));
    if (rule == "*") return std::string();
    rules.push_back(rule);
  }
  if (rules.empty()) return std::string("  hosts deny = ALL\n");
  return fmt::format("  hosts allow = {}\n  hosts deny = ALL\n", fmt::join(rules, " "));
}

Result<std::string> RenderShare(const ExportConfig& one, const RunPaths& paths) {
  if (!IsName(one.name)) {
    return Error(Errc::kInvalidArgument, fmt::format("export name \"{}\" is not usable", one.name));
  }
  const std::string path = paths.posix_door + (one.path == "/" ? "" : one.path);
  return fmt::format(
      R"(
[{name}]
  path = {path}
  read only = {read_only}
{clients}  guest ok = no
  force user = {unix_user}
  create mask = 0644
  directory mask = 0755

  # No caching without asking: see smb2 leases above.
  oplocks = no
  level2 oplocks = no
  kernel oplocks = no
  kernel share modes = no
  # Byte-range locks reach the engine's table, which NFS locks are in, too.
  posix locking = yes
  # An SMB flush is an fsync.
  strict sync = yes

  # DOS attributes and named streams are extended attributes of the file. NT ACLs are not kept there
  # (acl_xattr): NFS would not obey them, so the mode bits are the one truth for both protocols.
  vfs objects = streams_xattr
  ea support = yes
  store dos attributes = yes

  # Symbolic links are followed below the share only.
  follow symlinks = yes
  wide links = no
)",
      fmt::arg("name", one.name), fmt::arg("path", FILER_TRY(PathValue("share path", path))),
      fmt::arg("read_only", one.read_only ? "yes" : "no"),
      fmt::arg("clients", FILER_TRY(RenderClients(one))), fmt::arg("unix_user", kSmbUnixUser));
}

}  // namespace

Result<std::string> RenderSamba(const ApplianceConfig& config, const RunPaths& paths) {
  std::string text = "# Written by filer from its configuration; changes here are lost.\n\n";
  text += FILER_TRY(RenderGlobal(config, paths));
  if (paths.posix_door.empty()) return text;
  for (const ExportConfig& one : config.exports) {
    if (one.smb) text += FILER_TRY(RenderShare(one, paths));
  }
  return text;
}

}  // namespace filer::configs
