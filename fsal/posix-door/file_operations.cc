// File data: open, read, write, sync, space.
#include <linux/falloc.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

#include "fsal/posix-door/access.h"
#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

void SetOpenFlags(const DoorState& state, fuse_file_info* info) {
  info->fh = 0;
  info->direct_io = state.uses_page_cache ? 0 : 1;
  info->keep_cache = 0;
}

void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    if (!MayByList(request, state, inode, RightsOfOpen(info->flags))) return;
    const engine::NodeId node = state.Node(inode);
    const auto held = state.engine.Hold(node);
    if (!held.has_value()) return ReplyError(request, held.error());
    SetOpenFlags(state, info);
    // The kernel asks no release for an open that was interrupted.
    if (fuse_reply_open(request, info) == -ENOENT) state.engine.Release(node);
  });
}

// The kernel sends this for names that it found missing.
void Create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
            fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    engine::CreateOptions options;
    options.kind = engine::NodeKind::kFile;
    options.attributes.mode = mode & 07777;
    options.umask = fuse_req_ctx(request)->umask;
    if (!MayByList(request, state, parent, kMakeFile)) return;
    const std::uint64_t begin = state.kernel.Begin();
    const auto created = state.engine.Create(CallerOf(request), state.Node(parent), name, options);
    if (!created.has_value()) {
      // Somebody else was faster. The file's permissions are still unchecked: ESTALE makes the
      // kernel look again and open what is there.
      const bool was_there = created.error() == Errc::kExists && (info->flags & O_EXCL) == 0;
      fuse_reply_err(request, was_there ? ESTALE : ToErrno(created.error()));
      return;
    }
    const engine::Attributes& attributes = created.value().node;
    const auto held = state.engine.Hold(attributes.id);
    if (!held.has_value()) return ReplyError(request, held.error());
    SetOpenFlags(state, info);
    const fuse_entry_param entry = ToEntry(state, begin, parent, name, attributes);
    if (fuse_reply_create(request, &entry, info) == -ENOENT) state.engine.Release(attributes.id);
  });
}

// From the engine's buffers straight into the kernel.
void ReplyData(fuse_req_t request, const engine::ReadResult& read) {
  if (read.segments.size() < IOV_MAX - 1) {
    fuse_reply_iov(request, read.segments.data(), static_cast<int>(read.segments.size()));
    return;
  }
  std::string gathered;
  gathered.reserve(read.length_bytes);
  for (const iovec& segment : read.segments) {
    gathered.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
  }
  fuse_reply_buf(request, gathered.data(), gathered.size());
}

void Read(fuse_req_t request, fuse_ino_t inode, std::size_t size_bytes, off_t offset,
          fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto access_time = (info->flags & O_NOATIME) != 0 ? engine::Engine::AccessTime::kKeep
                                                            : engine::Engine::AccessTime::kTouch;
    const auto read = state.engine.Read(state.Node(inode), static_cast<std::uint64_t>(offset),
                                        size_bytes, access_time);
    if (!read.has_value()) return ReplyError(request, read.error());
    ReplyData(request, read.value());
  });
}

engine::Stability StabilityOf(int open_flags) {
  if ((open_flags & O_SYNC) == O_SYNC) return engine::Stability::kFileSync;
  if ((open_flags & O_DSYNC) != 0) return engine::Stability::kDataSync;
  return engine::Stability::kUnstable;
}

Result<std::uint64_t> WriteAll(DoorState& state, engine::NodeId node, std::uint64_t offset,
                               const char* data, std::size_t size_bytes,
                               engine::Stability stability, engine::QuotaRule rule) {
  std::size_t written = 0;
  while (written < size_bytes) {
    const iovec segment = {.iov_base = const_cast<char*>(data + written),
                           .iov_len = size_bytes - written};
    const auto result = state.engine.Write(node, offset + written, {&segment, 1}, stability, rule);
    if (!result.has_value()) {
      if (written > 0) break;
      return result.error();
    }
    if (result.value().length_bytes == 0) break;
    written += result.value().length_bytes;
  }
  return written;
}

// The kernel's idea of the end of the file may be older than another door's append.
Result<std::uint64_t> Append(DoorState& state, engine::NodeId node, const char* data,
                             std::size_t size_bytes, engine::Stability stability,
                             engine::QuotaRule rule) {
  const MutexLock lock(state.append_mutexes[node.inode % DoorState::kAppendStripes]);
  const auto attributes = FILER_TRY(state.engine.GetAttributes(node));
  return WriteAll(state, node, attributes.size_bytes, data, size_bytes, stability, rule);
}

void Write(fuse_req_t request, fuse_ino_t inode, const char* data, std::size_t size_bytes,
           off_t offset, fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    const engine::NodeId node = state.Node(inode);
    const engine::Stability stability = StabilityOf(info->flags);
    // The kernel does it for what goes through its page cache only.
    const auto dropped = state.engine.DropPrivileges(CallerOf(request), node);
    if (!dropped.has_value()) return ReplyError(request, dropped.error());
    // What the kernel writes back from its page cache is nobody's in particular.
    const engine::QuotaRule rule =
        info->writepage != 0 ? engine::QuotaRule::kEnforce : engine::QuotaRuleOf(CallerOf(request));
    const bool is_append = (info->flags & O_APPEND) != 0 && !state.uses_page_cache;
    const auto written = is_append ? Append(state, node, data, size_bytes, stability, rule)
                                   : WriteAll(state, node, static_cast<std::uint64_t>(offset), data,
                                              size_bytes, stability, rule);
    if (!written.has_value()) return ReplyError(request, written.error());
    fuse_reply_write(request, written.value());
  });
}

// close(2) of one descriptor: POSIX ends all byte-range locks of the process on the file.
void Flush(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    DropPosixLocks(state, state.Node(inode), info->lock_owner);
    fuse_reply_err(request, 0);
  });
}

void Release(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    state.engine.Release(state.Node(inode));
    fuse_reply_err(request, 0);
  });
}

void Sync(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto committed = state.engine.Commit(state.Node(inode), 0, 0);
    if (!committed.has_value()) return ReplyError(request, committed.error());
    fuse_reply_err(request, 0);
  });
}

// A hole, and then blocks for it: both read as zeroes, so nobody sees that these are two steps.
Result<void> ZeroRange(DoorState& state, const engine::Caller& caller, engine::NodeId node,
                       std::uint64_t from, std::uint64_t bytes, bool keep_size) {
  if (from > engine::kFileBytesMax || bytes > engine::kFileBytesMax - from) {
    return Errc::kFileTooBig;  // before anything is zero
  }
  FILER_TRY(state.engine.Deallocate(caller, node, from, bytes));
  return state.engine.Allocate(caller, node, from, bytes, keep_size);
}

void Fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
               fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    const engine::NodeId node = state.Node(inode);
    const auto from = static_cast<std::uint64_t>(offset);
    const auto bytes = static_cast<std::uint64_t>(length);
    const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    const int kind = mode & ~FALLOC_FL_KEEP_SIZE;
    if (kind == 0) {
      ReplyStatus(request, state.engine.Allocate(CallerOf(request), node, from, bytes, keep_size));
    } else if (kind == FALLOC_FL_ZERO_RANGE) {
      ReplyStatus(request, ZeroRange(state, CallerOf(request), node, from, bytes, keep_size));
    } else if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
      ReplyStatus(request, state.engine.Deallocate(CallerOf(request), node, from, bytes));
    } else {
      fuse_reply_err(request, EOPNOTSUPP);
    }
  });
}

void Seek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence,
          fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    const auto found = state.engine.Seek(state.Node(inode), static_cast<std::uint64_t>(offset),
                                         whence == SEEK_DATA);
    if (!found.has_value()) return ReplyError(request, found.error());
    fuse_reply_lseek(request, static_cast<off_t>(found.value()));
  });
}

void StatFs(fuse_req_t request, fuse_ino_t inode) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto status = state.engine.GetStatus(state.Node(inode));
    if (!status.has_value()) return ReplyError(request, status.error());
    constexpr std::uint64_t kUnit = 4096;
    struct statvfs answer = {};
    answer.f_bsize = kUnit;
    answer.f_frsize = kUnit;
    answer.f_blocks = status.value().total_bytes / kUnit;
    answer.f_bfree = status.value().free_bytes / kUnit;
    answer.f_bavail = status.value().available_bytes / kUnit;
    answer.f_files = status.value().total_nodes;
    answer.f_ffree = status.value().free_nodes;
    answer.f_favail = status.value().free_nodes;
    answer.f_fsid = status.value().fsid;
    answer.f_namemax = engine::kNameBytesMax;
    fuse_reply_statfs(request, &answer);
  });
}

}  // namespace

void AddFileOperations(fuse_lowlevel_ops& operations) {
  operations.open = Open;
  operations.create = Create;
  operations.read = Read;
  operations.write = Write;
  operations.flush = Flush;
  operations.release = Release;
  operations.fsync = Sync;
  operations.fallocate = Fallocate;
  operations.lseek = Seek;
  operations.statfs = StatFs;
}

}  // namespace filer::posix_door
