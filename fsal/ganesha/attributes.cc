#include "fsal/ganesha/attributes.h"

#include <limits>

#include "fsal/ganesha/acl.h"

namespace filer::ganesha {

namespace {

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

bool Has(const fsal_attrlist& attributes, attrmask_t bit) noexcept {
  return (attributes.valid_mask & bit) != 0;
}

Result<std::uint32_t> ToId(std::uint64_t id) {
  if (id > std::numeric_limits<std::uint32_t>::max()) return Error(Errc::kInvalidArgument);
  return static_cast<std::uint32_t>(id);
}

}  // namespace

object_file_type_t ToFileType(engine::NodeKind kind) noexcept {
  switch (kind) {
    case engine::NodeKind::kFile:
      return REGULAR_FILE;
    case engine::NodeKind::kDirectory:
      return DIRECTORY;
    case engine::NodeKind::kSymlink:
      return SYMBOLIC_LINK;
    case engine::NodeKind::kBlockDevice:
      return BLOCK_FILE;
    case engine::NodeKind::kCharDevice:
      return CHARACTER_FILE;
    case engine::NodeKind::kFifo:
      return FIFO_FILE;
    case engine::NodeKind::kSocket:
      return SOCKET_FILE;
  }
  return NO_FILE_TYPE;
}

std::optional<engine::NodeKind> ToNodeKind(object_file_type_t type) noexcept {
  switch (type) {
    case REGULAR_FILE:
      return engine::NodeKind::kFile;
    case DIRECTORY:
      return engine::NodeKind::kDirectory;
    case SYMBOLIC_LINK:
      return engine::NodeKind::kSymlink;
    case BLOCK_FILE:
      return engine::NodeKind::kBlockDevice;
    case CHARACTER_FILE:
      return engine::NodeKind::kCharDevice;
    case FIFO_FILE:
      return engine::NodeKind::kFifo;
    case SOCKET_FILE:
      return engine::NodeKind::kSocket;
    default:
      return std::nullopt;
  }
}

timespec ToTimespec(std::int64_t since_epoch_ns) noexcept {
  std::int64_t seconds = since_epoch_ns / kNanosecondsPerSecond;
  std::int64_t rest_ns = since_epoch_ns % kNanosecondsPerSecond;
  if (rest_ns < 0) {
    rest_ns += kNanosecondsPerSecond;
    --seconds;
  }
  return {static_cast<time_t>(seconds), static_cast<long>(rest_ns)};
}

std::int64_t ToNanoseconds(const timespec& time) noexcept {
  std::int64_t since_epoch_ns = 0;
  if (__builtin_mul_overflow(static_cast<std::int64_t>(time.tv_sec), kNanosecondsPerSecond,
                             &since_epoch_ns) ||
      __builtin_add_overflow(since_epoch_ns, static_cast<std::int64_t>(time.tv_nsec),
                             &since_epoch_ns)) {
    return time.tv_sec < 0 ? std::numeric_limits<std::int64_t>::min()
                           : std::numeric_limits<std::int64_t>::max();
  }
  return since_epoch_ns;
}

void FillAttributes(const engine::Attributes& from, fsal_attrlist& out) noexcept {
  out.type = ToFileType(from.kind);
  out.filesize = from.size_bytes;
  out.fsid.major = from.fsid;
  out.fsid.minor = 0;
  out.fsid3 = from.fsid;
  out.acl = nullptr;
  out.fileid = from.id.inode;
  out.mode = from.mode & 07777;
  out.numlinks = from.links;
  out.owner = from.uid;
  out.group = from.gid;
  out.rawdev.major = from.device_major;
  out.rawdev.minor = from.device_minor;
  out.atime = ToTimespec(from.atime_ns);
  out.creation = ToTimespec(from.btime_ns);
  out.ctime = ToTimespec(from.ctime_ns);
  out.mtime = ToTimespec(from.mtime_ns);
  out.spaceused = from.used_bytes;
  out.change = from.change;
  out.generation = from.generation;
  out.supported = kSupportedAttributes;
  out.valid_mask = kSupportedAttributes & ~static_cast<attrmask_t>(ATTR_ACL);
}

Result<engine::AttributeChange> ToChange(const fsal_attrlist& from) {
  if ((from.valid_mask & ~kSettableAttributes) != 0) return Error(Errc::kNotSupported);
  engine::AttributeChange change;
  if (Has(from, ATTR_MODE)) change.mode = from.mode & 07777;
  if (Has(from, ATTR_OWNER)) change.uid = FILER_TRY(ToId(from.owner));
  if (Has(from, ATTR_GROUP)) change.gid = FILER_TRY(ToId(from.group));
  if (Has(from, ATTR_SIZE)) {
    if (from.filesize > engine::kFileBytesMax) return Error(Errc::kFileTooBig);
    change.size_bytes = from.filesize;
  }
  if (Has(from, ATTR_ATIME)) change.atime_ns = ToNanoseconds(from.atime);
  if (Has(from, ATTR_MTIME)) change.mtime_ns = ToNanoseconds(from.mtime);
  if (Has(from, ATTR_CREATION)) change.btime_ns = ToNanoseconds(from.creation);
  change.atime_now = Has(from, ATTR_ATIME_SERVER);
  change.mtime_now = Has(from, ATTR_MTIME_SERVER);
  if (Has(from, ATTR_ACL)) change.acl = FILER_TRY(ToEngineAcl(from.acl));
  return change;
}

engine::Caller ToCaller(const user_cred& credentials) noexcept {
  engine::Caller caller;
  caller.uid = credentials.caller_uid;
  caller.gid = credentials.caller_gid;
  static_assert(sizeof(*credentials.caller_garray) == sizeof(std::uint32_t));
  caller.groups = {credentials.caller_garray, credentials.caller_glen};
  return caller;
}

}  // namespace filer::ganesha
