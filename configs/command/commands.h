// commands.h: one function per command of `filer`. Each prints its own output and returns the
// process's exit code (console.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/command/home.h"

namespace filer::command {

struct UpOptions {
  std::string mode;         // "guest", "host"; empty: guest
  std::string accelerator;  // "auto", "kvm", "tcg"; empty: the configuration's
  std::string config_path;  // empty: HOME/filer.toml if it is there, else the default configuration
  bool has_viommu = false;
};
int Up(const Home& home, const UpOptions& options);
int Down(const Home& home);
int Status(const Home& home, bool as_json);
// `is_probing`: boots the guest's kernel under KVM instead of quoting an earlier verdict.
int Doctor(const Home& home, bool is_probing, bool as_json);

// Replaces the bridge daemon under the running filer: by `program`, or, when that is empty, by what
// is installed now.
int BridgeUpgrade(const Home& home, const std::string& program, bool as_json);

struct TopOptions {
  bool is_once = false;
  bool as_json = false;  // one sample
};
// Until it is interrupted, once per second; one sample where no terminal is.
int Top(const Home& home, const TopOptions& options);

struct VolumeOptions {
  std::string config_path;
  std::string name;
  std::string path;  // of the file; empty: the configuration's, else HOME/volumes/NAME.img
  std::string size;  // "8G"; empty: the configuration's
  bool verify_data = false;
  bool must_repair = false, is_dry_run = false, is_confirmed = false;  // of check
  bool as_json = false;
};
int VolumeCreate(const Home& home, const VolumeOptions& options);
int VolumeList(const Home& home, const VolumeOptions& options);
int VolumeShow(const Home& home, const VolumeOptions& options);
int VolumeCheck(const Home& home, const VolumeOptions& options);
struct ScrubOptions {
  VolumeOptions volume;
  std::string rate;            // "64M" per second; empty: the engine's own
  bool is_background = false;  // started, not followed
  bool is_status = false;
  bool is_stopping = false;
};
int VolumeScrub(const Home& home, const ScrubOptions& options);
int VolumeGrow(const Home& home, const VolumeOptions& options);

// `filer snapshot VERB`, `filer fileset VERB`: of the running filer's volume.
struct FilesetOptions {
  std::string name;
  std::string new_name;
  std::string fileset;     // empty: the volume's first one; list: all
  bool is_agreed = false;  // --yes
  bool must_delete_newer = false;
  bool as_json = false;
};
int Snapshot(const Home& home, const std::string& verb, const FilesetOptions& options);
int Fileset(const Home& home, const std::string& verb, const FilesetOptions& options);

// `filer quota VERB`. Limits as they were written; empty: stay as they are.
struct QuotaOptions {
  std::string kind;  // "user", "group", "project"
  std::string id;
  std::string fileset;  // empty: the volume's first one
  std::string bytes_soft, bytes_hard, inodes_soft, inodes_hard;
  std::string bytes_seconds, inodes_seconds;  // grace
  bool as_json = false;
};
int Quota(const Home& home, const std::string& verb, const QuotaOptions& options);

// Runs ctest on the build folder, for one label or all, with the arguments after it.
int Test(const std::string& what);

// Becomes the program filer-bench with these words. Returns only when that cannot be started.
int Bench(std::vector<std::string> words);

}  // namespace filer::command
