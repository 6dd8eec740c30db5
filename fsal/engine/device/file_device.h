// file_device.h: a volume that is a regular file or block device of this machine, through io_uring;
// for tools, tests and doors that run without the bridge. Holds an exclusive lock (flock; shared
// when read-only) for its lifetime, the same one that the bridge takes. Durability: kFlush is
// fdatasync. Threads: as BlockDevice (one short lock around the ring).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"

namespace filer::engine {

struct FileDeviceOptions {
  std::string path;
  bool is_read_only = false;
  std::uint64_t pool_bytes = 256ULL << 20;  // taken from the machine only where touched
  std::uint64_t size_bytes_min = 4096;
  std::uint32_t depth_max = 128;
  // A descriptor of the file that the caller has opened and locked, and keeps open: used instead of
  // opening `path`, which then is only named in messages. For whoever may not let go of the lock.
  int locked_fd = -1;
};

// Errors, each with a one-line message: kNotFound, kBusy (locked by another process), kTooSmall,
// kAccessDenied, kInvalidArgument (neither file nor block device), kSystem. Blocking.
Result<std::unique_ptr<BlockDevice>> OpenFileDevice(const FileDeviceOptions& options);

}  // namespace filer::engine
