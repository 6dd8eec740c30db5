// fake_memory.h: guest memory of a test: a memfd mapped on the driver's side, to be shared.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/assert.h"
#include "base/file.h"

namespace filer::bridge {

class FakeMemory {
 public:
  explicit FakeMemory(std::size_t bytes)
      : bytes_(bytes), fd_(::memfd_create("fake-guest", MFD_CLOEXEC)) {
    FILER_ASSERT(::ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
    base_ = static_cast<std::byte*>(
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    FILER_ASSERT(base_ != MAP_FAILED);
  }
  FakeMemory(const FakeMemory&) = delete;
  FakeMemory& operator=(const FakeMemory&) = delete;
  ~FakeMemory() { ::munmap(base_, bytes_); }
  std::byte* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }
  int fd() const { return fd_.get(); }
  UniqueFd DupFd() const { return UniqueFd(::dup(fd_.get())); }
  template <typename T>
  T* At(std::size_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  std::size_t bytes_;
  UniqueFd fd_;
  std::byte* base_ = nullptr;
};

}  // namespace filer::bridge
