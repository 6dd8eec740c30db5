#include "fsal/engine/device/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/units.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {

Result<Arena> Arena::Map(std::uint64_t size_bytes) {
  const std::uint64_t rounded = RoundUp(size_bytes, kBufferBytesMax);
  void* address = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return Error(Errc::kNoMemory,
                 fmt::format("cannot map {} MiB for buffers: ask for less memory", rounded >> 20));
  }
  return Arena({static_cast<std::byte*>(address), rounded});
}

Arena::~Arena() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace filer::engine
