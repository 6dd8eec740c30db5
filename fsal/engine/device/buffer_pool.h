// buffer_pool.h: buffers of 4 KiB to 1 MiB (powers of two) carved out of one arena that the other
// end of the bridge can reach.
//
// Reference counted: a Buffer is freed when its last BufferRef goes (also from another thread, e.g.
// when the socket took the last byte of a READ). Bounded: an empty pool answers kNoMemory or waits,
// it never grows. Threads: any. Allocation takes one short lock (later: per-core caches).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/result.h"

namespace filer::engine {

inline constexpr std::uint32_t kBufferBytesMin = 4096;
inline constexpr std::uint32_t kBufferBytesMax = 1 << 20;

class BufferPool;

// Shared ownership of one pool buffer. Copying adds a reference.
class BufferRef {
 public:
  BufferRef() = default;
  BufferRef(const BufferRef& other) noexcept;
  BufferRef(BufferRef&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), index_(other.index_), size_(other.size_) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(index_, other.index_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~BufferRef();

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  std::byte* data() const noexcept;
  std::uint32_t size() const noexcept {
    return size_;
  }  // bytes of the size class, not what was asked for
  std::span<std::byte> bytes() const noexcept { return {data(), size_}; }

 private:
  friend class BufferPool;
  BufferRef(BufferPool* pool, std::uint32_t index, std::uint32_t size)
      : pool_(pool), index_(index), size_(size) {}
  BufferPool* pool_ = nullptr;
  std::uint32_t index_ = 0;  // in units of kBufferBytesMin from the start of the arena
  std::uint32_t size_ = 0;
};

class BufferPool {
 public:
  // The arena (alignment >= 4096, size a multiple of 1 MiB) must outlive the pool.
  explicit BufferPool(std::span<std::byte> arena);
  ~BufferPool();  // every BufferRef must be gone
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer of at least `bytes` (1 to kBufferBytesMax), contents undefined, aligned to 4096. Never
  // blocks. Errors: kNoMemory when there is no free run of that size; kInvalidArgument.
  Result<BufferRef> Allocate(std::uint32_t bytes);

  std::uint64_t size_bytes() const noexcept;
  std::uint64_t free_bytes() const noexcept;
  bool Contains(const void* address) const noexcept;

 private:
  friend class BufferRef;
  struct State;
  void AddReference(std::uint32_t index) noexcept;
  void DropReference(std::uint32_t index) noexcept;
  std::byte* AddressOf(std::uint32_t index) const noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace filer::engine
