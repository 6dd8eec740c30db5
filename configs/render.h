// render.h: from the checked configuration to the files of the servers: ganesha.conf and smb.conf,
// and what must be prepared before smbd starts.
//
// The text is for the machine where the servers run: in guest mode the paths of RunPaths are paths
// in the guest, and the caller passes a copy of the configuration with the guest's listening
// addresses. Whatever would change the meaning of such a file (quotes, line ends, Samba's % macros)
// is refused, so no value can become a setting. Client rules look at the address that the server
// sees: behind user-mode networking that is the emulator's for everybody. Threads: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "configs/config.h"

namespace filer::configs {

// Where things are on the machine that serves. All paths absolute.
struct RunPaths {
  std::string run_dir;      // the filer's own, root's; pid files, recovery state, Samba's databases
  std::string plugins_dir;  // holds libfsalnearmetal.so
  std::string device;       // "vhost_user:/path.sock", "pci:0000:00:10.0", "file:/path"
  std::string status_socket;  // of the NFS plug-in
  std::string posix_door;     // mount point that smbd serves; empty: no SMB
  std::uint32_t engine_memory_mb = 512;
  bool huge_pages = false;
};

// Export ids are part of file handles, so they depend on the name alone (a hash, 1 to 65535), not
// on the order in the file; the later of two that collide takes the next free one. Same order as
// `exports`.
std::vector<std::uint16_t> ExportIds(const std::vector<ExportConfig>& exports);

// Errors: kInvalidArgument naming the value that cannot be written.
Result<std::string> RenderGanesha(const ApplianceConfig& config, const RunPaths& paths);
Result<std::string> RenderSamba(const ApplianceConfig& config, const RunPaths& paths);

// The steps before smbd, for whoever starts it (configs/README.md): make the directories, write the
// files, run `add_user` with `add_user_input` on its standard input, then run `smbd` in the
// foreground. Everything lies below RUN_DIR/samba; repeating is harmless.
struct SambaSetup {
  struct Directory {
    std::string path;
    std::uint32_t mode = 0;
  };
  struct File {
    std::string path;
    std::string content;
    std::uint32_t mode = 0;
  };
  std::vector<Directory> directories;  // parents first
  std::vector<File> files;             // smb.conf and the user map
  std::vector<std::string> add_user;   // program and arguments
  std::string add_user_input;          // holds the password: never log it
  std::vector<std::string> smbd;       // program and arguments; stays in the foreground
};

// `smb_conf` is the text of RenderSamba for the same run_dir. Errors: kInvalidArgument for an empty
// password, one that smbpasswd cannot take (line ends), or an unusable user or path.
Result<SambaSetup> PrepareSamba(const std::string& smb_conf, const std::string& smb_user,
                                const std::string& smb_password, const std::string& run_dir);

// The Unix account that smbd works as; exists on every Debian, and is the one that NFS clients
// without an identity get, so both protocols own what they make.
inline constexpr std::string_view kSmbUnixUser = "nobody";

}  // namespace filer::configs
