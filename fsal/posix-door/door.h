// door.h: the engine as a file system of this machine, through FUSE.
//
// Runs in the process that owns the engine (Ganesha with our plug-in, filer-mount, tests), on
// threads of its own: one that waits for the end and up to `threads_max` that answer requests. What
// is served and how: operations.h. Programs must not use the mount from the engine's own process: a
// thread of it that waits for an answer may be the one that has to give it. Needs /dev/fuse, and
// root (or fusermount3 and user_allow_other in /etc/fuse.conf).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::posix_door {

struct PosixDoorOptions {
  bool is_read_only = false;
  unsigned threads_max = 8;
  // Lets the kernel cache file data (checked by modification time at every read). Programs can then
  // map files shared (mmap MAP_SHARED), but a change by NFS that keeps size and modification time
  // is not seen. Only for when this is the only door.
  bool uses_page_cache = false;
  // How long the destructor waits for programs to close their files before it detaches them.
  std::chrono::milliseconds unmount_wait{3000};
  // Called on a thread of the door when the mount ended without the destructor (somebody unmounted
  // it).
  std::function<void()> on_end;
};

class PosixDoor {
 public:
  // Serves when it returns. Makes the folder if it is missing; a mount that a killed process left
  // there is cleared away. Blocking. The engine must outlive the door, and not be unmounted before
  // it. Errors: kBusy if a filer is mounted there, kNotDirectory, kSystem (no /dev/fuse, no right).
  static Result<std::unique_ptr<PosixDoor>> Mount(engine::Engine& engine,
                                                  const std::string& mount_point,
                                                  const PosixDoorOptions& options = {});
  // Unmounts and ends all threads. Files that are still open after unmount_wait answer ENOTCONN.
  ~PosixDoor();
  PosixDoor(const PosixDoor&) = delete;
  PosixDoor& operator=(const PosixDoor&) = delete;

 private:
  struct State;
  explicit PosixDoor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace filer::posix_door
