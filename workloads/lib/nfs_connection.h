// nfs_connection.h: one NFS client connection in user space, on libnfs: the calls that copying and
// comparing need, with our errors. Over NFSv3 each call is the protocol's own procedure with the
// handle of the folder (nfs3_connection.cc); over NFSv4 libnfs's POSIX-like calls are used
// (nfs4_connection.cc), where a walk of the path is part of the COMPOUND. libnfs's C headers enter
// the project in those two files only. One thread at a time; every call blocks, and gives up when
// the server is silent for kNfsTimeoutMs or closes the connection: a server that dies is an error
// here, never silence.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer::workloads {

inline constexpr int kNfsTimeoutMs = 120'000;
inline constexpr std::uint64_t kNfsTransferBytes = 256 << 10;  // of one READ or WRITE

struct NfsAttributes {
  std::uint32_t type = 0;  // S_IFMT bits
  std::uint32_t mode = 0;  // 07777
  std::uint32_t links = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_us = 0;
};

class NfsConnection {
 public:
  // "nfs://host/share?nfsport=N&mountport=N&version=3|4"; without ports 2049 for both, version 3
  // without one. As uid 0, gid 0. Errors: kInvalidArgument, kNotRunning with the reason.
  static Result<std::unique_ptr<NfsConnection>> Connect(const std::string& url);
  virtual ~NfsConnection() = default;

  // Paths are absolute on the share. Folders on the way are remembered by their handles: a folder
  // that somebody else replaces meanwhile is kStaleHandle.
  virtual Result<NfsAttributes> Examine(const std::string& path) = 0;  // does not follow links
  virtual Result<void> MakeFolder(const std::string& path, std::uint32_t mode) = 0;
  virtual Result<void> MakeSymlink(const std::string& target, const std::string& path) = 0;
  virtual Result<std::string> ReadSymlink(const std::string& path) = 0;
  virtual Result<void> MakeLink(const std::string& existing, const std::string& path) = 0;
  // Without a mode: the modification (and access) time only. Not through symbolic links.
  virtual Result<void> SetModeAndTime(const std::string& path, std::optional<std::uint32_t> mode,
                                      std::int64_t mtime_us) = 0;
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;

  // Creates or truncates, writes, and returns only when the server has committed all of it (COMMIT,
  // or stable writes).
  virtual Result<void> WriteFile(const std::string& path, std::uint32_t mode,
                                 std::span<const std::byte> content) = 0;
  // The first size_bytes, or less when the file is shorter.
  virtual Result<std::vector<std::byte>> ReadFile(const std::string& path,
                                                  std::uint64_t size_bytes) = 0;
};

// The error that a server's answer stands for. error_number: an errno value, positive.
Errc NfsErrorCode(int error_number);

// The two kinds of connection. Ports are in network use (host byte order); share begins with '/'.
struct NfsServer {
  std::string host, share;
  int nfs_port = 2049, mount_port = 2049;
  int version = 3;
};
Result<NfsServer> ParseNfsUrl(const std::string& url);
Result<std::unique_ptr<NfsConnection>> ConnectNfs3(const NfsServer& server);
Result<std::unique_ptr<NfsConnection>> ConnectNfs4(const std::string& url);

}  // namespace filer::workloads
