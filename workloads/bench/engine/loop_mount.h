// loop_mount.h: a file system of the kernel on a loop device over a file. Nothing is left behind,
// whatever happens: the mount is made in a mount namespace of this process, and the loop device
// detaches itself when its last user has gone.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace filer::bench {

// Mounts of the calling thread, and of threads and processes that it makes from here on, are their
// own. Errors: kSystem (without root).
Result<void> EnterOwnMountNamespace();

class LoopMount {
 public:
  // Runs mkfs.<kind> on `image`, a file of its own, and mounts it on the folder `mount_point`.
  // `log_path`: for what mkfs says. Errors, each with a line that says what is missing: kNotFound
  // (no mkfs), kNotSupported (the kernel cannot), kSystem.
  static Result<LoopMount> Make(const std::string& kind, const std::string& image,
                                const std::string& mount_point, const std::string& log_path);
  LoopMount(LoopMount&& other) noexcept
      : mount_point_(std::exchange(other.mount_point_, {})), is_direct_(other.is_direct_) {}
  ~LoopMount();

  // False: the image's own file system does not take direct transfers, so its page cache is in
  // between.
  bool is_direct() const { return is_direct_; }

 private:
  LoopMount(std::string mount_point, bool is_direct)
      : mount_point_(std::move(mount_point)), is_direct_(is_direct) {}
  std::string mount_point_;
  bool is_direct_;
};

}  // namespace filer::bench
