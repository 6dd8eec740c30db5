#include "tests/integration/nfs/client.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace filer::test {

namespace {

constexpr int kTimeoutMs = 120'000;  // a loaded machine

// libnfs names all contexts of a process alike: to NFSv4 the second is the first, started again.
std::string NameOfItsOwn() {
  static std::atomic<int> count = 0;
  return "client-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

}  // namespace

Result<std::unique_ptr<Client>> Client::Mount(const std::string& url,
                                              const ClientOptions& options) {
  nfs_context* context = nfs_init_context();
  if (context == nullptr) return Errc::kNoMemory;
  std::unique_ptr<Client> client(new Client(context));
  nfs_url* parsed = nfs_parse_url_dir(context, url.c_str());
  if (parsed == nullptr) return Error(Errc::kInvalidArgument, client->error());
  nfs_set_uid(context, options.uid);
  nfs_set_gid(context, options.gid);
  nfs_umask(context, 0);
  nfs_set_timeout(context, kTimeoutMs);
  nfs_set_autoreconnect(context, 0);
  nfs_set_dircache(context, 0);
  const std::string name = options.name.empty() ? NameOfItsOwn() : options.name;
  nfs4_set_client_name(context, name.c_str());
  const int result = nfs_mount(context, parsed->server, parsed->path);
  nfs_destroy_url(parsed);
  if (result != 0) return Error(Errc::kNotRunning, url + ": " + client->error());
  return client;
}

Client::~Client() { nfs_destroy_context(context_); }

int Client::Write(const std::string& path, const std::string& content, std::size_t chunk,
                  bool commit) {
  nfsfh* file = nullptr;
  int result = nfs_open2(context_, path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644, &file);
  // libnfs 5.0.2 makes every NFSv4 create an exclusive one.
  if (result == -EEXIST) {
    result = nfs_open(context_, path.c_str(), O_TRUNC | O_WRONLY, &file);
  }
  if (result != 0) return result;
  for (std::size_t offset = 0; offset < content.size() && result >= 0;) {
    const std::size_t length = std::min(chunk, content.size() - offset);
    result = nfs_pwrite(context_, file, offset, length, content.data() + offset);
    if (result == 0) result = -EIO;
    if (result > 0) offset += static_cast<std::size_t>(result);
  }
  if (result >= 0 && commit) result = nfs_fsync(context_, file);
  const int closed = nfs_close(context_, file);
  return result < 0 ? result : closed;
}

int Client::WriteFile(const std::string& path, const std::string& content, std::size_t chunk) {
  return Write(path, content, chunk, false);
}

int Client::WriteStable(const std::string& path, const std::string& content) {
  return Write(path, content, 256 << 10, true);
}

Result<std::string> Client::ReadFile(const std::string& path, std::size_t chunk) {
  nfsfh* file = nullptr;
  if (nfs_open(context_, path.c_str(), O_RDONLY, &file) != 0) return Error(Errc::kIo, error());
  std::string content;
  std::string buffer(chunk, '\0');
  while (true) {
    const int count = nfs_pread(context_, file, content.size(), chunk, buffer.data());
    if (count < 0) {
      Error failed(Errc::kIo, error());
      nfs_close(context_, file);
      return failed;
    }
    if (count == 0) break;
    content.append(buffer.data(), static_cast<std::size_t>(count));
  }
  nfs_close(context_, file);
  return content;
}

Result<std::vector<std::string>> Client::List(const std::string& path) {
  nfsdir* directory = nullptr;
  if (nfs_opendir(context_, path.c_str(), &directory) != 0) return Error(Errc::kIo, error());
  std::vector<std::string> names;
  while (const nfsdirent* entry = nfs_readdir(context_, directory)) {
    const std::string name = entry->name;
    if (name != "." && name != "..") names.push_back(name);
  }
  nfs_closedir(context_, directory);
  return names;
}

nfs_stat_64 Client::Stat(const std::string& path) {
  nfs_stat_64 status{};
  if (nfs_lstat64(context_, path.c_str(), &status) != 0) return {};
  return status;
}

std::string Pattern(std::size_t size_bytes, std::uint64_t seed) {
  std::string bytes(size_bytes, '\0');
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  for (std::size_t i = 0; i < size_bytes; ++i) {
    if (i % 8 == 0) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
    }
    bytes[i] = static_cast<char>(state >> (i % 8 * 8));
  }
  return bytes;
}

}  // namespace filer::test
