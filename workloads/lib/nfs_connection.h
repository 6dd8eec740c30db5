// nfs_connection.h: one NFS client connection in user space, on libnfs: the calls that copying and
// comparing need, with our errors. libnfs's C header enters the project here and in
// nfs_connection.cc only. One thread at a time; every call blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

struct nfs_context;
struct nfsfh;

namespace filer::workloads {

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
  // "nfs://host/share?nfsport=N&mountport=N&version=3|4", as libnfs takes it. As uid 0, gid 0.
  // Errors: kNotRunning with libnfs's reason.
  static Result<std::unique_ptr<NfsConnection>> Connect(const std::string& url);
  ~NfsConnection();

  Result<NfsAttributes> Examine(const std::string& path);  // symbolic links are not followed
  Result<void> MakeFolder(const std::string& path, std::uint32_t mode);
  Result<void> MakeSymlink(const std::string& target, const std::string& path);
  Result<std::string> ReadSymlink(const std::string& path);
  Result<void> MakeLink(const std::string& existing, const std::string& path);
  Result<void> SetMode(const std::string& path, std::uint32_t mode);
  Result<void> SetTimes(const std::string& path,
                        std::int64_t mtime_us);  // not through symbolic links
  Result<void> Remove(const std::string& path);
  Result<std::vector<std::string>> List(const std::string& path);

  // Creates or truncates, writes, and returns only when the server has committed all of it (COMMIT,
  // or stable writes).
  Result<void> WriteFile(const std::string& path, std::uint32_t mode,
                         std::span<const std::byte> content);
  Result<std::vector<std::byte>> ReadFile(const std::string& path, std::uint64_t size_bytes);

 private:
  explicit NfsConnection(nfs_context* context) : context_(context) {}
  Error Failed(int result, const std::string& what) const;
  Result<void> Checked(int result, const std::string& what) const;
  nfs_context* context_;
};

}  // namespace filer::workloads
