#include "fsal/posix-door/convert.h"

#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdint>

namespace filer::posix_door {
namespace {

constexpr std::uint64_t kFuseRoot = 1;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

int ErrnoOf(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalidArgument:
    case Errc::kLoop:
    case Errc::kBadCookie:
      return EINVAL;
    case Errc::kInvalidName:
      return EINVAL;
    case Errc::kNotSupported:
      return EOPNOTSUPP;
    case Errc::kNotFound:
      return ENOENT;
    case Errc::kExists:
      return EEXIST;
    case Errc::kNotDirectory:
      return ENOTDIR;
    case Errc::kIsDirectory:
      return EISDIR;
    case Errc::kNotEmpty:
      return ENOTEMPTY;
    case Errc::kNameTooLong:
      return ENAMETOOLONG;
    case Errc::kCrossesFileset:
      return EXDEV;
    case Errc::kTooManyLinks:
      return EMLINK;
    case Errc::kFileTooBig:
      return EFBIG;
    case Errc::kStaleHandle:
    case Errc::kBadHandle:
      return ESTALE;
    case Errc::kNotPermitted:
      return EPERM;
    case Errc::kAccessDenied:
    case Errc::kRefused:
      return EACCES;
    case Errc::kReadOnly:
      return EROFS;
    case Errc::kNoSpace:
      return ENOSPC;
    case Errc::kQuotaExceeded:
      return EDQUOT;
    case Errc::kNoAttribute:
      return ENODATA;
    case Errc::kTooBig:
      return E2BIG;
    case Errc::kLockConflict:
    case Errc::kWouldBlock:
      return EAGAIN;
    case Errc::kDeadlock:
      return EDEADLK;
    case Errc::kBusy:
      return EBUSY;
    case Errc::kTimedOut:
      return ETIMEDOUT;
    case Errc::kCancelled:
      return EINTR;
    case Errc::kShuttingDown:
      return ESHUTDOWN;
    case Errc::kNoMemory:
      return ENOMEM;
    case Errc::kOutOfRange:
      return ENXIO;
    default:
      return EIO;
  }
}

}  // namespace

int ToErrno(const Error& error) noexcept {
  if (error.code() == Errc::kSystem && error.os_errno() != 0) return error.os_errno();
  return ErrnoOf(error.code());
}

std::uint64_t ToFuseInode(std::uint64_t engine_inode, std::uint64_t engine_root) noexcept {
  return engine_inode == engine_root ? kFuseRoot : engine_inode;
}

std::uint64_t ToEngineInode(std::uint64_t fuse_inode, std::uint64_t engine_root) noexcept {
  return fuse_inode == kFuseRoot ? engine_root : fuse_inode;
}

mode_t ToFileType(engine::NodeKind kind) noexcept {
  switch (kind) {
    case engine::NodeKind::kFile:
      return S_IFREG;
    case engine::NodeKind::kDirectory:
      return S_IFDIR;
    case engine::NodeKind::kSymlink:
      return S_IFLNK;
    case engine::NodeKind::kBlockDevice:
      return S_IFBLK;
    case engine::NodeKind::kCharDevice:
      return S_IFCHR;
    case engine::NodeKind::kFifo:
      return S_IFIFO;
    case engine::NodeKind::kSocket:
      return S_IFSOCK;
  }
  return S_IFREG;
}

std::optional<engine::NodeKind> ToNodeKind(mode_t mode) noexcept {
  switch (mode & S_IFMT) {
    case 0:  // mknod(2): zero is a regular file
    case S_IFREG:
      return engine::NodeKind::kFile;
    case S_IFDIR:
      return engine::NodeKind::kDirectory;
    case S_IFLNK:
      return engine::NodeKind::kSymlink;
    case S_IFBLK:
      return engine::NodeKind::kBlockDevice;
    case S_IFCHR:
      return engine::NodeKind::kCharDevice;
    case S_IFIFO:
      return engine::NodeKind::kFifo;
    case S_IFSOCK:
      return engine::NodeKind::kSocket;
    default:
      return std::nullopt;
  }
}

timespec ToTimespec(std::int64_t since_epoch_ns) noexcept {
  std::int64_t seconds = since_epoch_ns / kNsPerSecond;
  std::int64_t rest = since_epoch_ns % kNsPerSecond;
  if (rest < 0) {
    rest += kNsPerSecond;
    --seconds;
  }
  return {.tv_sec = seconds, .tv_nsec = rest};
}

std::int64_t ToNanoseconds(const timespec& time) noexcept {
  std::int64_t ns = 0;
  if (__builtin_mul_overflow(static_cast<std::int64_t>(time.tv_sec), kNsPerSecond, &ns) ||
      __builtin_add_overflow(ns, static_cast<std::int64_t>(time.tv_nsec), &ns)) {
    return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
  }
  return ns;
}

struct stat ToStat(const engine::Attributes& attributes) noexcept {
  struct stat result = {};
  result.st_ino = attributes.id.inode;
  result.st_mode = ToFileType(attributes.kind) | (attributes.mode & 07777);
  result.st_nlink = attributes.links;
  result.st_uid = attributes.uid;
  result.st_gid = attributes.gid;
  result.st_size = static_cast<off_t>(attributes.size_bytes);
  result.st_blocks = static_cast<blkcnt_t>((attributes.used_bytes + 511) / 512);
  result.st_blksize = 4096;
  result.st_rdev = makedev(attributes.device_major, attributes.device_minor);
  result.st_atim = ToTimespec(attributes.atime_ns);
  result.st_mtim = ToTimespec(attributes.mtime_ns);
  result.st_ctim = ToTimespec(attributes.ctime_ns);
  return result;
}

Result<engine::LockRange> ToLockRange(const struct flock& lock) noexcept {
  if (lock.l_whence != SEEK_SET || lock.l_start < 0 || lock.l_len < 0 ||
      (lock.l_type != F_RDLCK && lock.l_type != F_WRLCK && lock.l_type != F_UNLCK)) {
    return Errc::kInvalidArgument;
  }
  return engine::LockRange{
      .offset_bytes = static_cast<std::uint64_t>(lock.l_start),
      .length_bytes = static_cast<std::uint64_t>(lock.l_len),  // 0: to the end, in both worlds
      .kind = lock.l_type == F_WRLCK ? engine::LockKind::kWrite : engine::LockKind::kRead};
}

struct flock ToFlock(const engine::LockRange& range, pid_t pid) noexcept {
  constexpr auto kEnd = static_cast<std::uint64_t>(INT64_MAX);
  struct flock lock = {};
  lock.l_type = range.kind == engine::LockKind::kWrite ? F_WRLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.offset_bytes > kEnd ? kEnd : range.offset_bytes);
  // A length beyond what off_t can say (NFS has 64 bits) is "to the end".
  const bool is_long = range.length_bytes > kEnd - static_cast<std::uint64_t>(lock.l_start);
  lock.l_len = is_long ? 0 : static_cast<off_t>(range.length_bytes);
  lock.l_pid = pid;
  return lock;
}

bool IsStoredXattr(std::string_view name) noexcept { return RefusalOfXattr(name) == 0; }

bool IsPosixAclXattr(std::string_view name) noexcept {
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

int RefusalOfXattr(std::string_view name) noexcept {
  if (IsPosixAclXattr(name)) return 0;
  for (const std::string_view space : {"user.", "security.", "trusted."}) {
    if (name.starts_with(space)) return name == space ? EINVAL : 0;
  }
  return EOPNOTSUPP;
}

bool IsListedXattr(std::string_view name, std::uint32_t uid) noexcept {
  return IsStoredXattr(name) && (uid == 0 || !name.starts_with("trusted."));
}

}  // namespace filer::posix_door
