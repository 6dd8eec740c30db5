// arena.h: plain memory of this process for a buffer pool, for devices that need no DMA
// (file_device.h, sim_device.h). Zero-filled, page aligned, taken from the machine only where
// touched. Unmapped by the destructor. Move only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"

namespace filer::engine {

class Arena {
 public:
  // `size_bytes` is rounded up to a multiple of 1 MiB, what BufferPool asks for. Errors: kNoMemory.
  static Result<Arena> Map(std::uint64_t size_bytes);
  ~Arena();
  Arena(Arena&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Arena& operator=(Arena&&) = delete;

  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  explicit Arena(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace filer::engine
