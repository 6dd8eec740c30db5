// home.h: where one filer keeps its things on the host, and where this program's own files are. One
// home, one filer.
//
// HOME (--home, $FILER_HOME; default /var/lib/nearmetal):
//   volumes/       volume files made by `filer volume create`
//   smb.password   of the SMB user, mode 0600, made once
//   run/           sockets, logs, state.json; nothing of it is needed after `filer down`
#pragma once

#include <string>

#include "base/file.h"
#include "base/result.h"

namespace filer::command {

struct Home {
  std::string root;

  std::string Volumes() const { return root + "/volumes"; }
  std::string Run() const { return root + "/run"; }
  std::string ConfigFile() const { return root + "/filer.toml"; }
  std::string PasswordFile() const { return root + "/smb.password"; }
  std::string StateFile() const { return Run() + "/state.json"; }
  std::string LockFile() const { return root + "/lock"; }
  std::string BridgeControl() const { return Run() + "/bridge.sock"; }
  std::string KeeperControl() const { return Run() + "/keeper.sock"; }
  std::string BridgeLog() const { return Run() + "/bridge.log"; }
  std::string VolumeSocket(std::size_t index) const {
    return Run() + "/v" + std::to_string(index) + ".sock";
  }
  std::string AgentSocket() const { return Run() + "/agent.sock"; }
  std::string FilerFolder() const { return Run() + "/f"; }  // host mode: of Ganesha and Samba
  std::string EngineSocket() const { return FilerFolder() + "/engine.sock"; }  // host mode
};

// The home at `path`, without symbolic links: the kernel's mount table and the command lines of
// processes, by which things of this home are found, are compared with it. It need not exist.
// Errors: kUsage for a path that is not absolute or holds a ',' (BridgeCommand), kSystem.
Result<Home> HomeAt(const std::string& path);

// Makes the folders. Errors: kSystem; kTooBig when sockets below it would exceed the system's 107
// bytes.
Result<void> PrepareHome(const Home& home);

// Held while a command changes the filer, so that two never run at once. Errors: kBusy.
Result<UniqueFd> LockHome(const Home& home);

// The password of the SMB user; made from the kernel's random numbers when there is none yet.
Result<std::string> EnsurePassword(const Home& home);

// Folders of this installation.
struct Installation {
  std::string programs;  // host-bridge, filer-agent, filer-mount
  std::string plugins;   // libfsalnearmetal.so
  std::string source;    // the image's recipe; empty if it is not there
  std::string ganesha;   // the pinned Ganesha: src, build, install
  std::string cache;     // images, verdicts
};
Installation FindInstallation();

}  // namespace filer::command
