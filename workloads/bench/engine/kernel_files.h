// kernel_files.h: a mounted file system of the kernel, by system calls. Large transfers and
// overwrites are O_DIRECT, so that reads come from the volume and the page cache is no second copy;
// small new files are written through the page cache and fsynced, then their directory.
#pragma once

#include <memory>
#include <string>

#include "workloads/bench/engine/file_system.h"

namespace filer::bench {

// `folder` is the root of the mount. Errors: kSystem.
Result<std::unique_ptr<FileSystem>> OpenKernelFiles(const std::string& folder);

}  // namespace filer::bench
