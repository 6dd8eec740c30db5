// Reading directories. The position is the engine's cookie of the last entry given out; "." and
// ".." come first, as 1 and 2. Cookies are stable, so a listing goes on correctly across changes
// and over any time. There is no readdirplus: names of files are always asked again.
#include <cerrno>
#include <string>

#include "fsal/posix-door/access.h"
#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

constexpr std::uint64_t kDotCookie = 1;
constexpr std::uint64_t kDotDotCookie = 2;
constexpr std::size_t kReplyBytesMax = 1 << 20;

// One answer in the kernel's format, up to the size that it asked for.
class EntryBuffer {
 public:
  EntryBuffer(fuse_req_t request, std::size_t size_bytes)
      : request_(request), size_(std::min(size_bytes, kReplyBytesMax)) {
    bytes_.resize(size_);
  }

  // False if it does not fit any more.
  bool Add(const char* name, std::uint64_t inode, mode_t type, std::uint64_t cookie) {
    struct stat status = {};
    status.st_ino = inode;
    status.st_mode = type;
    const std::size_t needed = fuse_add_direntry(request_, bytes_.data() + used_, size_ - used_,
                                                 name, &status, static_cast<off_t>(cookie));
    if (needed > size_ - used_) return false;
    used_ += needed;
    return true;
  }
  void Reply() { fuse_reply_buf(request_, bytes_.data(), used_); }
  bool empty() const { return used_ == 0; }

 private:
  fuse_req_t request_;
  std::size_t size_;
  std::size_t used_ = 0;
  std::string bytes_;
};

void OpenDirectory(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) noexcept {
  Answer(request, [&](DoorState& state) {
    if (!MayByList(request, state, inode, engine::kAceReadData)) return;
    const engine::NodeId node = state.Node(inode);
    const auto held = state.engine.Hold(node);
    if (!held.has_value()) return ReplyError(request, held.error());
    info->fh = 0;
    info->keep_cache = 0;
    info->cache_readdir = 0;
    // The kernel asks no release for an open that was interrupted.
    if (fuse_reply_open(request, info) == -ENOENT) state.engine.Release(node);
  });
}

// The two entries that every directory has. True if there is room for more.
Result<bool> AddDots(DoorState& state, engine::NodeId node, std::uint64_t after,
                     EntryBuffer& buffer) {
  if (after < kDotCookie && !buffer.Add(".", node.inode, S_IFDIR, kDotCookie)) return false;
  if (after < kDotDotCookie) {
    // A directory that was removed while open has no parent any more.
    const auto parent = state.engine.LookupParent(node);
    const std::uint64_t inode = parent.has_value() ? parent.value().id.inode : node.inode;
    if (!buffer.Add("..", inode, S_IFDIR, kDotDotCookie)) return false;
  }
  return true;
}

void ReadDirectory(fuse_req_t request, fuse_ino_t inode, std::size_t size_bytes, off_t offset,
                   fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    const engine::NodeId node = state.Node(inode);
    const auto after = static_cast<std::uint64_t>(offset);
    EntryBuffer buffer(request, size_bytes);
    const auto has_room = AddDots(state, node, after, buffer);
    if (!has_room.has_value()) return ReplyError(request, has_room.error());
    if (has_room.value()) {
      const auto read = state.engine.ReadDirectory(
          node, std::max(after, kDotDotCookie), [&](const engine::DirectoryEntry& entry) {
            return buffer.Add(entry.name.c_str(), entry.id.inode, ToFileType(entry.kind),
                              entry.cookie);
          });
      if (!read.has_value() && buffer.empty()) return ReplyError(request, read.error());
    }
    buffer.Reply();
  });
}

void ReleaseDirectory(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    state.engine.Release(state.Node(inode));
    fuse_reply_err(request, 0);
  });
}

// What changes names is durable when it returns.
void SyncDirectory(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) noexcept {
  fuse_reply_err(request, 0);
}

}  // namespace

void AddDirectoryOperations(fuse_lowlevel_ops& operations) {
  operations.opendir = OpenDirectory;
  operations.readdir = ReadDirectory;
  operations.releasedir = ReleaseDirectory;
  operations.fsyncdir = SyncDirectory;
}

}  // namespace filer::posix_door
