#include "fsal/posix-door/access.h"

#include <fcntl.h>

#include <algorithm>

namespace filer::posix_door {
namespace {

constexpr int kGroupsMax = 1024;
constexpr int kOpenedToExecute = 0x20;  // FMODE_EXEC, which the kernel leaves among the flags

// Who he is to an NFSv4 list. Reading his groups takes a file of /proc: only where there is one.
class ListCaller {
 public:
  explicit ListCaller(fuse_req_t request) : groups_(GroupsOf(request)) {
    caller_ = CallerOf(request);
    caller_.is_trusted = false;
    caller_.groups = groups_;
  }
  const engine::Caller& get() const { return caller_; }

 private:
  std::vector<std::uint32_t> groups_;
  engine::Caller caller_;
};

}  // namespace

std::vector<std::uint32_t> GroupsOf(fuse_req_t request) {
  static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
  std::vector<std::uint32_t> groups(kGroupsMax);
  const int count = fuse_req_getgroups(request, kGroupsMax, groups.data());
  groups.resize(count < 0 ? 0 : static_cast<std::size_t>(std::min(count, kGroupsMax)));
  return groups;
}

std::uint32_t RightsOfOpen(int open_flags) {
  if ((open_flags & kOpenedToExecute) != 0) return engine::kAceExecute;
  std::uint32_t rights = 0;
  const int access = open_flags & O_ACCMODE;
  if (access != O_WRONLY) rights |= engine::kAceReadData;
  if (access != O_RDONLY) {
    rights |= (open_flags & O_APPEND) != 0 ? engine::kAceAppendData
                                           : engine::kAceWriteData | engine::kAceAppendData;
  }
  return rights;
}

bool HasNfs4List(DoorState& state, fuse_ino_t inode) {
  const auto attributes = state.engine.GetAttributes(state.Node(inode));
  return attributes.has_value() && attributes.value().acl == engine::AclKind::kNfs4;
}

Result<void> AskList(fuse_req_t request, DoorState& state, fuse_ino_t inode, std::uint32_t mask) {
  if (fuse_req_ctx(request)->uid == 0 || !HasNfs4List(state, inode)) return Ok();
  return state.engine.Access(ListCaller(request).get(), state.Node(inode), mask);
}

bool MayByList(fuse_req_t request, DoorState& state, fuse_ino_t inode, std::uint32_t mask) {
  const auto may = AskList(request, state, inode, mask);
  if (!may.has_value()) ReplyError(request, may.error());
  return may.has_value();
}

Result<void> AskListsToRemove(fuse_req_t request, DoorState& state, fuse_ino_t parent,
                              std::string_view name) {
  // Without a list of the directory the kernel's answer, that it may be changed, is enough.
  if (fuse_req_ctx(request)->uid == 0 || !HasNfs4List(state, parent)) return Ok();
  const auto child = state.engine.Lookup(state.Node(parent), name);
  if (!child.has_value()) return Ok();  // what follows finds that, too
  return state.engine.AccessToRemove(ListCaller(request).get(), state.Node(parent),
                                     child.value().id);
}

Result<void> AskListsToRename(fuse_req_t request, DoorState& state, Name from, Name to,
                              bool is_exchange) {
  if (fuse_req_ctx(request)->uid == 0) return Ok();
  FILER_TRY(AskListsToRemove(request, state, from.parent, from.name));
  FILER_TRY(AskListsToRemove(request, state, to.parent, to.name));
  const auto rights_for = [&](const Name& name) {
    const auto node = state.engine.Lookup(state.Node(name.parent), name.name);
    const bool is_directory = node.has_value() && node.value().kind == engine::NodeKind::kDirectory;
    return is_directory ? kMakeDirectory : kMakeFile;
  };
  if (HasNfs4List(state, to.parent)) {
    FILER_TRY(AskList(request, state, to.parent, rights_for(from)));
  }
  if (is_exchange && HasNfs4List(state, from.parent)) {
    FILER_TRY(AskList(request, state, from.parent, rights_for(to)));
  }
  return Ok();
}

}  // namespace filer::posix_door
