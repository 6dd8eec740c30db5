// file.h: an owned file descriptor and small whole-file helpers with one-line errors.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace filer {

// Owns one descriptor; closes it when destroyed. Move only.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { Reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int get() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }
  int Release() noexcept { return std::exchange(fd_, -1); }
  void Reset() noexcept;

 private:
  int fd_ = -1;
};

// Whole file as text. Errors: kNotFound, kSystem; kTooBig past `limit_bytes`. Blocking.
Result<std::string> ReadWholeFile(const std::string& path, std::size_t limit_bytes = 16 << 20);

// Replaces the file atomically: temporary file beside it, fsync, rename, fsync of the folder.
// Blocking.
Result<void> WriteFileAtomically(const std::string& path, std::string_view content,
                                 int mode = 0644);

// fsync of the folder that holds `path`: its name survives a power failure. Errors: kSystem. Blocking.
Result<void> SyncFolderOf(const std::string& path);

}  // namespace filer
