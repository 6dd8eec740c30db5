// io_batch.h: several device requests submitted together and waited for by polling. One thread, no
// locks of the engine needed.
#pragma once

#include <deque>
#include <vector>

#include "fsal/engine/device/block_device.h"

namespace filer::engine {

class IoBatch {
 public:
  explicit IoBatch(BlockDevice& device) : device_(device) {}
  ~IoBatch() { static_cast<void>(Wait()); }
  IoBatch(const IoBatch&) = delete;
  IoBatch& operator=(const IoBatch&) = delete;

  // Starts it (polling while the queue is full); an error shows in Wait. At most
  // kRequestSegmentsMax segments.
  void Submit(BlockOperation operation, std::uint64_t offset_bytes, std::vector<iovec> segments);
  // Until all are done; the first error. May be called again.
  Result<void> Wait();

 private:
  struct Entry {
    BlockRequest request;
    std::vector<iovec> segments;
    bool is_started = false;
  };
  BlockDevice& device_;
  std::deque<Entry> entries_;
  Errc error_ = Errc::kIo;
  bool has_error_ = false;
};

}  // namespace filer::engine
