#include "workloads/bench/scratch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "base/file.h"
#include "base/remove_tree.h"

namespace filer::bench {

Result<ScratchFolder> ScratchFolder::Make(const std::string& parent) {
  std::string path = parent + "/filer-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return Error::System(errno, parent + ": cannot make a folder here");
  }
  return ScratchFolder(std::move(path));
}

ScratchFolder::~ScratchFolder() {
  // Never enters what may still be mounted below.
  if (!path_.empty()) static_cast<void>(RemoveTree(path_).has_value());
}

Result<void> WriteVolume(const std::string& path, std::uint64_t bytes) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.is_open()) return Error::System(errno, path);
  std::vector<std::uint64_t> block(128 << 10);
  std::uint64_t word = 0;
  for (std::uint64_t done = 0; done < bytes;) {
    for (std::uint64_t& one : block) one = (word += 0x9e3779b97f4a7c15ULL);
    const std::size_t piece = std::min<std::uint64_t>(bytes - done, block.size() * sizeof(word));
    const ssize_t written = ::write(file.get(), block.data(), piece);
    if (written <= 0) {
      return Error::System(errno, path + ": cannot write the volume; is there room?");
    }
    done += static_cast<std::uint64_t>(written);
  }
  if (::fdatasync(file.get()) != 0) return Error::System(errno, path);
  return Ok();
}

}  // namespace filer::bench
