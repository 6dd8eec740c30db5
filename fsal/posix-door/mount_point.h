// mount_point.h: what lies on a mount point, and how to clear away what a killed process left
// there.
//
// The kernel keeps a FUSE mount whose daemon was killed: every access to it answers ENOTCONN until
// somebody unmounts it.
#pragma once

#include <string>

#include "base/result.h"

namespace filer::posix_door {

// Makes `path` ready to be mounted on: it must be a directory (made if missing) with nothing of
// ours on it; mounts of ours whose daemon is dead are unmounted lazily. Blocking. Errors: kBusy if
// a living filer is mounted there, kNotDirectory, kSystem.
Result<void> PrepareMountPoint(const std::string& path);

// umount2; without privileges fusermount3. Errors: kBusy if files are open and !is_lazy, kSystem.
Result<void> UnmountPath(const std::string& path, bool is_lazy);

}  // namespace filer::posix_door
