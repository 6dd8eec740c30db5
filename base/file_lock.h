// file_lock.h: the lock that keeps two processes off one volume file: flock, which goes away with
// the process however it ends. Advisory: every opener of a volume takes it.
#pragma once

#include <string>

#include "base/result.h"

namespace filer {

// Takes the lock on the open file description `fd`: shared or exclusive. The lock of a process that
// was just killed lingers until the kernel has finished its I/O; it is waited for, some seconds at
// most. Errors: kBusy, the message naming the file and, where it can be known, the holder's pid.
Result<void> LockVolumeFile(int fd, const std::string& path, bool is_exclusive);

}  // namespace filer
