// client.h: one libnfs connection for a test; every call gives 0 or a negative errno, as libnfs
// does.
#pragma once

#include <nfsc/libnfs.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer::test {

struct ClientOptions {
  int uid = 0;
  int gid = 0;
  std::string name;  // NFSv4 client name; empty: one of its own
};

class Client {
 public:
  static Result<std::unique_ptr<Client>> Mount(const std::string& url,
                                               const ClientOptions& options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  nfs_context* operator*() const { return context_; }
  std::string error() const { return nfs_get_error(context_); }

  // Whole files. `chunk` is the size of one request.
  int WriteFile(const std::string& path, const std::string& content, std::size_t chunk = 256 << 10);
  // Writes, commits, closes: 0 means that the server said it is stable.
  int WriteStable(const std::string& path, const std::string& content);
  Result<std::string> ReadFile(const std::string& path, std::size_t chunk = 256 << 10);
  // Names but "." and "..", in the order of the server.
  Result<std::vector<std::string>> List(const std::string& path);
  nfs_stat_64 Stat(const std::string& path);  // all zero on error

 private:
  explicit Client(nfs_context* context) : context_(context) {}
  int Write(const std::string& path, const std::string& content, std::size_t chunk, bool commit);
  nfs_context* context_;
};

// Bytes that say where they come from: no two blocks are alike, and a seed makes files differ.
std::string Pattern(std::size_t size_bytes, std::uint64_t seed);

}  // namespace filer::test
