#include <fcntl.h>
#include <fmt/core.h>
#include <nfsc/libnfs.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "workloads/lib/nfs_connection.h"

namespace filer::workloads {
namespace {

timeval ToTimeval(std::int64_t microseconds) {
  return {.tv_sec = microseconds / 1'000'000, .tv_usec = microseconds % 1'000'000};
}

class Nfs4Connection final : public NfsConnection {
 public:
  explicit Nfs4Connection(nfs_context* context) : context_(context) {}
  ~Nfs4Connection() override { nfs_destroy_context(context_); }
  Nfs4Connection(const Nfs4Connection&) = delete;
  Nfs4Connection& operator=(const Nfs4Connection&) = delete;

  Result<void> Mount(const std::string& url);

  Result<NfsAttributes> Examine(const std::string& path) override;
  Result<void> MakeFolder(const std::string& path, std::uint32_t mode) override {
    return Checked(nfs_mkdir2(context_, path.c_str(), static_cast<int>(mode)),
                   "make folder " + path);
  }
  Result<void> MakeSymlink(const std::string& target, const std::string& path) override {
    return Checked(nfs_symlink(context_, target.c_str(), path.c_str()),
                   "make symbolic link " + path);
  }
  Result<std::string> ReadSymlink(const std::string& path) override;
  Result<void> MakeLink(const std::string& existing, const std::string& path) override {
    return Checked(nfs_link(context_, existing.c_str(), path.c_str()), "make link " + path);
  }
  Result<void> SetModeAndTime(const std::string& path, std::optional<std::uint32_t> mode,
                              std::int64_t mtime_us) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Result<void> WriteFile(const std::string& path, std::uint32_t mode,
                         std::span<const std::byte> content) override;
  Result<std::vector<std::byte>> ReadFile(const std::string& path,
                                          std::uint64_t size_bytes) override;

 private:
  Result<void> Checked(int result, const std::string& what) const {
    if (result >= 0) return Ok();
    const char* text = nfs_get_error(context_);
    return Error(NfsErrorCode(-result), what + ": " + (text != nullptr ? text : "failed"));
  }

  nfs_context* context_;
};

Result<void> Nfs4Connection::Mount(const std::string& url) {
  nfs_url* parsed = nfs_parse_url_dir(context_, url.c_str());
  if (parsed == nullptr) {
    return Error(Errc::kInvalidArgument, url + ": " + nfs_get_error(context_));
  }
  nfs_set_uid(context_, 0);
  nfs_set_gid(context_, 0);
  nfs_umask(context_, 0);
  nfs_set_timeout(context_, kNfsTimeoutMs);
  nfs_set_autoreconnect(context_, 0);
  // NFSv4 knows clients by name: connections that share one would end each other's leases (RFC
  // 7530, 9.1.1).
  static std::atomic<int> connections{0};
  const std::string name = fmt::format("filer-nfs-{}-{}", ::getpid(), connections.fetch_add(1));
  nfs4_set_client_name(context_, name.c_str());
  const int result = nfs_mount(context_, parsed->server, parsed->path);
  nfs_destroy_url(parsed);
  if (result != 0) return Error(Errc::kNotRunning, url + ": " + nfs_get_error(context_));
  return Ok();
}

Result<NfsAttributes> Nfs4Connection::Examine(const std::string& path) {
  nfs_stat_64 status{};
  FILER_TRY(Checked(nfs_lstat64(context_, path.c_str(), &status), "examine " + path));
  NfsAttributes attributes;
  attributes.type = static_cast<std::uint32_t>(status.nfs_mode & S_IFMT);
  attributes.mode = static_cast<std::uint32_t>(status.nfs_mode & 07777);
  attributes.links = static_cast<std::uint32_t>(status.nfs_nlink);
  attributes.inode = status.nfs_ino;
  attributes.size_bytes = status.nfs_size;
  attributes.mtime_us = static_cast<std::int64_t>(status.nfs_mtime) * 1'000'000 +
                        static_cast<std::int64_t>(status.nfs_mtime_nsec / 1000);
  return attributes;
}

Result<std::string> Nfs4Connection::ReadSymlink(const std::string& path) {
  char* target = nullptr;
  FILER_TRY(Checked(nfs_readlink2(context_, path.c_str(), &target), "read link " + path));
  // libnfs does not end the text of an NFSv4 link; its length is the link's size (POSIX).
  const auto length = FILER_TRY(Examine(path)).size_bytes;
  std::string text(target, ::strnlen(target, length));
  ::free(target);
  return text;
}

Result<void> Nfs4Connection::SetModeAndTime(const std::string& path,
                                            std::optional<std::uint32_t> mode,
                                            std::int64_t mtime_us) {
  if (mode.has_value()) {
    FILER_TRY(
        Checked(nfs_chmod(context_, path.c_str(), static_cast<int>(*mode)), "set mode of " + path));
  }
  timeval times[2] = {ToTimeval(mtime_us), ToTimeval(mtime_us)};
  return Checked(nfs_lutimes(context_, path.c_str(), times), "set times of " + path);
}

Result<std::vector<std::string>> Nfs4Connection::List(const std::string& path) {
  nfsdir* directory = nullptr;
  FILER_TRY(Checked(nfs_opendir(context_, path.c_str(), &directory), "list " + path));
  std::vector<std::string> names;
  while (const nfsdirent* entry = nfs_readdir(context_, directory)) {
    const std::string name = entry->name;
    if (name != "." && name != "..") names.push_back(name);
  }
  nfs_closedir(context_, directory);
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> Nfs4Connection::WriteFile(const std::string& path, std::uint32_t mode,
                                       std::span<const std::byte> content) {
  nfsfh* file = nullptr;
  int opened =
      nfs_open2(context_, path.c_str(), O_CREAT | O_TRUNC | O_RDWR, static_cast<int>(mode), &file);
  // libnfs creates over NFSv4 with EXCLUSIVE4 only, which refuses a file that is there.
  if (opened == -EEXIST) opened = nfs_open(context_, path.c_str(), O_TRUNC | O_RDWR, &file);
  FILER_TRY(Checked(opened, "create " + path));
  int result = 0;
  for (std::uint64_t at = 0; at < content.size() && result >= 0;) {
    const std::uint64_t length = std::min<std::uint64_t>(kNfsTransferBytes, content.size() - at);
    result = nfs_pwrite(context_, file, at, length, content.data() + at);
    if (result == 0) result = -EIO;
    if (result > 0) at += static_cast<std::uint64_t>(result);
  }
  if (result >= 0) result = nfs_fsync(context_, file);
  const Result<void> written = Checked(result, "write " + path);
  const int closed = nfs_close(context_, file);
  if (!written) return written;
  return Checked(closed, "close " + path);
}

Result<std::vector<std::byte>> Nfs4Connection::ReadFile(const std::string& path,
                                                        std::uint64_t size_bytes) {
  nfsfh* file = nullptr;
  FILER_TRY(Checked(nfs_open(context_, path.c_str(), O_RDONLY, &file), "open " + path));
  std::vector<std::byte> content(size_bytes);
  int result = 0;
  std::uint64_t at = 0;
  while (at < size_bytes) {
    result = nfs_pread(context_, file, at, std::min(kNfsTransferBytes, size_bytes - at),
                       content.data() + at);
    if (result <= 0) break;
    at += static_cast<std::uint64_t>(result);
  }
  const Result<void> read = Checked(result, "read " + path);
  nfs_close(context_, file);
  if (!read) return std::move(read).assume_error();
  content.resize(at);
  return content;
}

}  // namespace

Result<std::unique_ptr<NfsConnection>> ConnectNfs4(const std::string& url) {
  nfs_context* context = nfs_init_context();
  if (context == nullptr) return Errc::kNoMemory;
  auto connection = std::make_unique<Nfs4Connection>(context);
  FILER_TRY(connection->Mount(url));
  return std::unique_ptr<NfsConnection>(std::move(connection));
}

}  // namespace filer::workloads
