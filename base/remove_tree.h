// remove_tree.h: removal of a folder with all that is in it, and of nothing that is mounted there.
#pragma once

#include <string>

#include "base/result.h"

namespace filer {

// Removes `path` and everything below it; ok if there is nothing. Symbolic links are removed, never
// followed. The kernel itself is asked not to enter a mount, also one of the same file system (bind)
// or one that appears meanwhile: what is mounted stays whole, and so do the folders above it.
// Errors: kBusy, naming the mount point; kTooBig beyond 128 levels; kSystem. Blocking.
Result<void> RemoveTree(const std::string& path);

}  // namespace filer
