// access.h: who obeys which list on the FUSE mount.
//
// Mode bits and POSIX lists: the kernel (FUSE_POSIX_ACL with default_permissions). It checks every
// step of a path, also through names that it remembers, and access(2), without a request each; it
// keeps a list only as long as the attributes, and drops both when it is told of a change. Without
// default_permissions every step would have to come here, and no name could be remembered.
//
// NFSv4 lists: the kernel knows none. It goes by the mode, which is kept with the list (acl.h), and
// the engine is asked here as well: both must agree. So nobody gets more than over NFS; who is
// allowed something only by name in such a list gets it over NFS only.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "fsal/posix-door/operations.h"

namespace filer::posix_door {

inline constexpr std::uint32_t kMakeFile = engine::kAceWriteData | engine::kAceExecute;
inline constexpr std::uint32_t kMakeDirectory = engine::kAceAppendData | engine::kAceExecute;

// The caller's supplementary groups, from /proc. Empty if that fails.
std::vector<std::uint32_t> GroupsOf(fuse_req_t request);
// Of open(2)'s flags. The kernel opens for reading what it executes (FMODE_EXEC).
std::uint32_t RightsOfOpen(int open_flags);

bool HasNfs4List(DoorState& state, fuse_ino_t inode);
// Errors: kAccessDenied. Success for nodes without an NFSv4 list: the kernel has decided.
Result<void> AskList(fuse_req_t request, DoorState& state, fuse_ino_t inode, std::uint32_t mask);
// The same, and answers the request if not.
bool MayByList(fuse_req_t request, DoorState& state, fuse_ino_t inode, std::uint32_t mask);

struct Name {
  fuse_ino_t parent;
  std::string_view name;
};
Result<void> AskListsToRemove(fuse_req_t request, DoorState& state, fuse_ino_t parent,
                              std::string_view name);
Result<void> AskListsToRename(fuse_req_t request, DoorState& state, Name from, Name to,
                              bool is_exchange);

}  // namespace filer::posix_door
