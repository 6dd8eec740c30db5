#include "workloads/lib/nfs_connection.h"

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

namespace filer::workloads {
namespace {

constexpr std::uint64_t kTransferBytes = 256 << 10;
constexpr int kTimeoutMs = 120'000;

timeval ToTimeval(std::int64_t microseconds) {
  return {.tv_sec = microseconds / 1'000'000, .tv_usec = microseconds % 1'000'000};
}

Errc CodeOf(int result) {
  switch (-result) {
    case ENOENT:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kExists;
    case ENOTEMPTY:
      return Errc::kNotEmpty;
    case ENOSPC:
      return Errc::kNoSpace;
    case EACCES:
      return Errc::kAccessDenied;
    case ESTALE:
      return Errc::kStaleHandle;
    case EROFS:
      return Errc::kReadOnly;
    default:
      return Errc::kIo;
  }
}

}  // namespace

Result<std::unique_ptr<NfsConnection>> NfsConnection::Connect(const std::string& url) {
  nfs_context* context = nfs_init_context();
  if (context == nullptr) return Errc::kNoMemory;
  std::unique_ptr<NfsConnection> connection(new NfsConnection(context));
  nfs_url* parsed = nfs_parse_url_dir(context, url.c_str());
  if (parsed == nullptr) {
    return Error(Errc::kInvalidArgument, url + ": " + nfs_get_error(context));
  }
  nfs_set_uid(context, 0);
  nfs_set_gid(context, 0);
  nfs_umask(context, 0);
  nfs_set_timeout(context, kTimeoutMs);
  nfs_set_autoreconnect(context, 0);  // a server that dies is an error here, never silence
  // NFSv4 knows clients by name: connections that share one would end each other's leases (RFC
  // 7530, 9.1.1).
  static std::atomic<int> connections{0};
  const std::string name = fmt::format("filer-nfs-{}-{}", ::getpid(), connections.fetch_add(1));
  nfs4_set_client_name(context, name.c_str());
  const int result = nfs_mount(context, parsed->server, parsed->path);
  nfs_destroy_url(parsed);
  if (result != 0) return Error(Errc::kNotRunning, url + ": " + nfs_get_error(context));
  return connection;
}

NfsConnection::~NfsConnection() { nfs_destroy_context(context_); }

Error NfsConnection::Failed(int result, const std::string& what) const {
  const char* text = nfs_get_error(context_);
  return Error(CodeOf(result), what + ": " + (text != nullptr ? text : "failed"));
}

Result<void> NfsConnection::Checked(int result, const std::string& what) const {
  if (result < 0) return Failed(result, what);
  return Ok();
}

Result<NfsAttributes> NfsConnection::Examine(const std::string& path) {
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

Result<void> NfsConnection::MakeFolder(const std::string& path, std::uint32_t mode) {
  return Checked(nfs_mkdir2(context_, path.c_str(), static_cast<int>(mode)), "make folder " + path);
}

Result<void> NfsConnection::MakeSymlink(const std::string& target, const std::string& path) {
  return Checked(nfs_symlink(context_, target.c_str(), path.c_str()), "make symbolic link " + path);
}

Result<std::string> NfsConnection::ReadSymlink(const std::string& path) {
  char* target = nullptr;
  FILER_TRY(Checked(nfs_readlink2(context_, path.c_str(), &target), "read link " + path));
  // libnfs does not end the text of an NFSv4 link; its length is the link's size (POSIX).
  const auto length = FILER_TRY(Examine(path)).size_bytes;
  std::string text(target, ::strnlen(target, length));
  ::free(target);
  return text;
}

Result<void> NfsConnection::MakeLink(const std::string& existing, const std::string& path) {
  return Checked(nfs_link(context_, existing.c_str(), path.c_str()), "link " + path);
}

Result<void> NfsConnection::SetMode(const std::string& path, std::uint32_t mode) {
  return Checked(nfs_chmod(context_, path.c_str(), static_cast<int>(mode)), "set mode of " + path);
}

Result<void> NfsConnection::SetTimes(const std::string& path, std::int64_t mtime_us) {
  timeval times[2] = {ToTimeval(mtime_us), ToTimeval(mtime_us)};
  return Checked(nfs_lutimes(context_, path.c_str(), times), "set times of " + path);
}

Result<void> NfsConnection::Remove(const std::string& path) {
  return Checked(nfs_unlink(context_, path.c_str()), "remove " + path);
}

Result<std::vector<std::string>> NfsConnection::List(const std::string& path) {
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

Result<void> NfsConnection::WriteFile(const std::string& path, std::uint32_t mode,
                                      std::span<const std::byte> content) {
  nfsfh* file = nullptr;
  int opened =
      nfs_open2(context_, path.c_str(), O_CREAT | O_TRUNC | O_RDWR, static_cast<int>(mode), &file);
  // libnfs creates over NFSv4 with EXCLUSIVE4 only, which refuses a file that is there.
  if (opened == -EEXIST) opened = nfs_open(context_, path.c_str(), O_TRUNC | O_RDWR, &file);
  FILER_TRY(Checked(opened, "create " + path));
  int result = 0;
  for (std::uint64_t at = 0; at < content.size() && result >= 0;) {
    const std::uint64_t length = std::min<std::uint64_t>(kTransferBytes, content.size() - at);
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

Result<std::vector<std::byte>> NfsConnection::ReadFile(const std::string& path,
                                                       std::uint64_t size_bytes) {
  nfsfh* file = nullptr;
  FILER_TRY(Checked(nfs_open(context_, path.c_str(), O_RDONLY, &file), "open " + path));
  std::vector<std::byte> content(size_bytes);
  int result = 0;
  std::uint64_t at = 0;
  while (at < size_bytes) {
    result = nfs_pread(context_, file, at, std::min(kTransferBytes, size_bytes - at),
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

}  // namespace filer::workloads
