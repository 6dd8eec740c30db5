#include "configs/render.h"

#include <fmt/format.h>

#include <set>

#include "configs/syntax.h"

namespace filer::configs {

std::vector<std::uint16_t> ExportIds(const std::vector<ExportConfig>& exports) {
  std::vector<std::uint16_t> ids;
  std::set<std::uint32_t> used;
  for (const ExportConfig& one : exports) {
    std::uint32_t hash = 2166136261U;  // FNV-1a, 32 bits
    for (const char c : one.name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
    std::uint32_t id = (hash ^ hash >> 16) % 65535 + 1;
    while (!used.insert(id).second) id = id % 65535 + 1;
    ids.push_back(static_cast<std::uint16_t>(id));
  }
  return ids;
}

Result<SambaSetup> PrepareSamba(const std::string& smb_conf, const std::string& smb_user,
                                const std::string& smb_password, const std::string& run_dir) {
  if (const auto why = WhyNotPath(run_dir)) {
    return Error(Errc::kInvalidArgument, fmt::format("run folder \"{}\": {}", run_dir, *why));
  }
  if (!IsAccountName(smb_user)) {
    return Error(Errc::kInvalidArgument, "SMB user: not a usable account name");
  }
  if (smb_password.empty() || smb_password.size() > 127 ||
      smb_password.find_first_of(std::string_view("\n\r\0", 3)) != std::string::npos) {
    return Error(Errc::kInvalidArgument, "SMB password: use 1 to 127 bytes without line ends");
  }
  const std::string base = run_dir + "/samba";
  const std::string conf = base + "/smb.conf";
  SambaSetup setup;
  // smbd insists on 0755 for the lock folder and on 0700 for ncalrpc/np; it makes those itself.
  setup.directories = {{base, 0755},
                       {base + "/private", 0700},
                       {base + "/lock", 0755},
                       {base + "/state", 0755},
                       {base + "/cache", 0755},
                       {base + "/pid", 0755},
                       {base + "/ncalrpc", 0755}};
  setup.files = {{conf, smb_conf, 0600},
                 {base + "/users.map", fmt::format("!{} = {}\n", kSmbUnixUser, smb_user), 0600}};
  setup.add_user = {"smbpasswd", "-c", conf, "-a", "-s", std::string(kSmbUnixUser)};
  setup.add_user_input = smb_password + "\n" + smb_password + "\n";
  setup.smbd = {"smbd", "--foreground", "--no-process-group", "--configfile=" + conf};
  return setup;
}

}  // namespace filer::configs
