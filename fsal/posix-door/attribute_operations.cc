// Attributes and extended attributes.
#include <sys/xattr.h>

#include <cerrno>
#include <string>
#include <vector>

#include "fsal/posix-door/access.h"
#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

void ReplyAttributes(fuse_req_t request, DoorState& state, std::uint64_t begin, fuse_ino_t inode,
                     const Result<engine::Attributes>& attributes) {
  if (!attributes.has_value()) return ReplyError(request, attributes.error());
  const struct stat status = ToStat(attributes.value());
  fuse_reply_attr(request, &status, state.kernel.AttributeLifetime(begin, inode));
}

void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) noexcept {
  Answer(request, [&](DoorState& state) {
    const std::uint64_t begin = state.kernel.Begin();
    ReplyAttributes(request, state, begin, inode, state.engine.GetAttributes(state.Node(inode)));
  });
}

engine::AttributeChange ToChange(const struct stat& wanted, int to_set) {
  engine::AttributeChange change;
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) change.mode = wanted.st_mode & 07777;
  if ((to_set & FUSE_SET_ATTR_UID) != 0) change.uid = wanted.st_uid;
  if ((to_set & FUSE_SET_ATTR_GID) != 0) change.gid = wanted.st_gid;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    change.size_bytes = static_cast<std::uint64_t>(wanted.st_size);
  }
  if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) {
    change.atime_now = true;
  } else if ((to_set & FUSE_SET_ATTR_ATIME) != 0) {
    change.atime_ns = ToNanoseconds(wanted.st_atim);
  }
  if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
    change.mtime_now = true;
  } else if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
    change.mtime_ns = ToNanoseconds(wanted.st_mtim);
  }
  return change;  // ctime is the engine's own
}

void SetAttributes(fuse_req_t request, fuse_ino_t inode, struct stat* wanted, int to_set,
                   fuse_file_info* file) noexcept {
  Answer(request, [&](DoorState& state) {
    const bool cuts_by_name = (to_set & FUSE_SET_ATTR_SIZE) != 0 && file == nullptr;
    if (cuts_by_name && !MayByList(request, state, inode, engine::kAceWriteData)) return;
    const std::uint64_t begin = state.kernel.Begin();
    ReplyAttributes(request, state, begin, inode,
                    state.engine.SetAttributes(CallerOf(request), state.Node(inode),
                                               ToChange(*wanted, to_set)));
  });
}

bool IsUsers(std::string_view xattr_name) { return xattr_name.starts_with("user."); }

// A size of 0 asks for the size (getxattr(2)).
void ReplySized(fuse_req_t request, const std::string& value, std::size_t size_bytes) {
  if (size_bytes == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > size_bytes) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

void GetXattr(fuse_req_t request, fuse_ino_t inode, const char* name,
              std::size_t size_bytes) noexcept {
  Answer(request, [&](DoorState& state) {
    if (const int refused = RefusalOfXattr(name); refused != 0) {
      fuse_reply_err(request, refused);
      return;
    }
    if (IsUsers(name) && !MayByList(request, state, inode, engine::kAceReadData)) return;
    const auto value = state.engine.GetXattr(state.Node(inode), name);
    if (!value.has_value()) return ReplyError(request, value.error());
    ReplySized(request, value.value(), size_bytes);
  });
}

void SetXattr(fuse_req_t request, fuse_ino_t inode, const char* name, const char* value,
              std::size_t size_bytes, int flags) noexcept {
  Answer(request, [&](DoorState& state) {
    if (const int refused = RefusalOfXattr(name); refused != 0) {
      fuse_reply_err(request, refused);
      return;
    }
    if (IsUsers(name) && !MayByList(request, state, inode, engine::kAceWriteData)) return;
    if (flags == (XATTR_CREATE | XATTR_REPLACE)) {  // can never be, but says why
      const auto old = state.engine.GetXattr(state.Node(inode), name);
      fuse_reply_err(request, old.has_value() ? EEXIST : ToErrno(old.error()));
      return;
    }
    auto mode = engine::Engine::XattrMode::kCreateOrReplace;
    if (flags == XATTR_CREATE) mode = engine::Engine::XattrMode::kCreate;
    if (flags == XATTR_REPLACE) mode = engine::Engine::XattrMode::kReplace;
    engine::Caller caller = CallerOf(request);
    // A list may take setgid from the mode, unless the caller is of the group.
    std::vector<std::uint32_t> groups;
    if (IsPosixAclXattr(name)) caller.groups = groups = GroupsOf(request);
    ReplyStatus(request, state.engine.SetXattr(caller, state.Node(inode), name,
                                               std::string_view(value, size_bytes), mode));
  });
}

void RemoveXattr(fuse_req_t request, fuse_ino_t inode, const char* name) noexcept {
  Answer(request, [&](DoorState& state) {
    if (const int refused = RefusalOfXattr(name); refused != 0) {
      fuse_reply_err(request, refused);
      return;
    }
    if (IsUsers(name) && !MayByList(request, state, inode, engine::kAceWriteData)) return;
    ReplyStatus(request, state.engine.RemoveXattr(CallerOf(request), state.Node(inode), name));
  });
}

void ListXattrs(fuse_req_t request, fuse_ino_t inode, std::size_t size_bytes) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto names = state.engine.ListXattrs(state.Node(inode));
    if (!names.has_value()) return ReplyError(request, names.error());
    std::string list;
    for (const std::string& name : names.value()) {
      if (!IsListedXattr(name, fuse_req_ctx(request)->uid)) continue;
      list += name;
      list += '\0';
    }
    ReplySized(request, list, size_bytes);
  });
}

}  // namespace

void AddAttributeOperations(fuse_lowlevel_ops& operations) {
  operations.getattr = GetAttributes;
  operations.setattr = SetAttributes;
  operations.getxattr = GetXattr;
  operations.setxattr = SetXattr;
  operations.removexattr = RemoveXattr;
  operations.listxattr = ListXattrs;
}

}  // namespace filer::posix_door
