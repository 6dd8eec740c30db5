// scratch.h: folders and volume files that benchmarks make for themselves. Blocking; one thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace filer::bench {

// A folder that goes away with the object.
class ScratchFolder {
 public:
  // Errors: kSystem.
  static Result<ScratchFolder> Make(const std::string& parent);
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ~ScratchFolder();
  const std::string& path() const { return path_; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// A new file of random bytes. Every byte is written: a hole would be read from nowhere. Errors:
// kSystem.
Result<void> WriteVolume(const std::string& path, std::uint64_t bytes);

}  // namespace filer::bench
