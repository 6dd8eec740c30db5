// config.h: the appliance's configuration: what a person may say about one filer, checked.
//
// The file is TOML. It is read strictly: an unknown key is an error with the nearest known one, a
// value out of range says the range, and all errors are reported at once, each as
// `file:line:column: what; how to mend it`. A file that passes can be rendered (render.h) without
// further checks of its values. Every key has a default: an empty file is DefaultConfig.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace filer::configs {

enum class Accelerator { kAuto, kKvm, kTcg };
enum class Squash { kRoot, kNone, kAll };
enum class VolumeBackend { kFile, kMemory };
// Of the guest: QEMU's own network with port forwarding, a tap device of the host, or an SR-IOV
// virtual function.
enum class Nic { kUser, kTap, kVf };

inline constexpr std::uint32_t kNobody = 65534;  // Debian's nobody and nogroup
inline constexpr std::uint64_t kVolumeBytesMin = 64ULL << 20;
inline constexpr std::uint64_t kVolumeBytesMax = 64ULL << 40;

struct GuestConfig {
  std::uint32_t memory_mb = 1024;
  std::uint32_t cpus = 2;
  Accelerator accel = Accelerator::kAuto;
  Nic nic = Nic::kUser;
  std::string nic_device;  // kTap: its name; kVf: its PCI address, "0000:03:10.2"
  std::string address;     // kTap and kVf: the guest's own, "192.0.2.5/24"
  std::string gateway;     // empty: none
  friend bool operator==(const GuestConfig&, const GuestConfig&) = default;
};

struct BridgeConfig {
  std::uint32_t pollers = 1;  // threads of the bridge that serve the volumes' queues
  friend bool operator==(const BridgeConfig&, const BridgeConfig&) = default;
};

struct NfsConfig {
  std::uint16_t port = 2049;
  // The MOUNT protocol of NFSv3 (there is no rpcbind to ask). Default: the port above `port`.
  std::uint16_t mount_port = 2050;
  std::string address = "127.0.0.1";  // IPv4 or IPv6 address to listen on
  friend bool operator==(const NfsConfig&, const NfsConfig&) = default;
};

struct SmbConfig {
  std::uint16_t port = 445;
  std::string address = "127.0.0.1";  // default: that of NFS
  std::string user = "filer";         // the one account that clients log in with
  friend bool operator==(const SmbConfig&, const SmbConfig&) = default;
};

struct VolumeConfig {
  std::string name = "main";
  std::string path;  // file on this machine, absolute; default: HOME/volumes/NAME.img
  std::uint64_t size_bytes = 8ULL << 30;  // of a volume that is still to be made; multiple of 4096
  VolumeBackend backend = VolumeBackend::kFile;
  std::uint64_t iops_max = 0;         // requests per second that the bridge takes; 0: all
  std::uint64_t bytes_per_s_max = 0;  // of data; 0: all
  friend bool operator==(const VolumeConfig&, const VolumeConfig&) = default;
};

struct ExportConfig {
  std::string name = "share";   // SMB share, and "/name" for NFS
  std::string path = "/share";  // directory inside the volume; default: "/" + name
  std::string volume = "main";  // default: the only volume
  bool nfs = true;
  bool smb = true;
  bool read_only = false;
  Squash squash = Squash::kRoot;
  std::uint32_t anonymous_uid = kNobody;
  std::uint32_t anonymous_gid = kNobody;
  // "*", addresses, or networks ("10.0.0.0/8"); empty: nobody.
  std::vector<std::string> clients = {"*"};
  std::uint32_t mode = 01777;  // of the directory when it is made
  friend bool operator==(const ExportConfig&, const ExportConfig&) = default;
};

struct ApplianceConfig {
  std::string name = "nearmetal";
  GuestConfig guest;
  BridgeConfig bridge;
  NfsConfig nfs;
  SmbConfig smb;
  std::vector<VolumeConfig> volumes;
  std::vector<ExportConfig> exports;
  friend bool operator==(const ApplianceConfig&, const ApplianceConfig&) = default;
};

// One volume "main" of 8 GiB at HOME/volumes/main.img, exported as "share" to everybody who reaches
// 127.0.0.1. `home` is the state folder of the command, absolute.
ApplianceConfig DefaultConfig(const std::string& home);

struct ParsedConfig {
  ApplianceConfig config;           // meaningful only without errors
  std::vector<std::string> errors;  // `file:line:column: what; how to mend it`, in file order
  bool is_valid() const { return errors.empty(); }
};

// Never throws, never touches the disk. `file_name` is only for the messages.
ParsedConfig ParseConfig(std::string_view text, const std::string& file_name,
                         const std::string& home);

// Reads and parses a file. Errors: kConfigInvalid with all messages, one per line; kNotFound.
Result<ApplianceConfig> LoadConfig(const std::string& path, const std::string& home);

// The words of the file, for messages and JSON.
std::string_view ToText(Accelerator value) noexcept;
std::string_view ToText(Squash value) noexcept;
std::string_view ToText(VolumeBackend value) noexcept;

}  // namespace filer::configs
