// block_request.h: from a descriptor chain to a request for the backend, or to an answer at once.
// Range, alignment, read-only and features are all checked here; behind it, a request is valid.
#pragma once

#include <cstdint>
#include <string>

#include "host-bridge/backend/backend.h"
#include "host-bridge/target/device_queue.h"
#include "host-bridge/virtio/block.h"

namespace filer::bridge {

// What requests of one session are checked against.
struct BlockDevice {
  std::uint64_t capacity_sectors = 0;
  bool is_read_only = false;
  bool has_discard = false;          // negotiated
  bool has_write_zeroes = false;     // negotiated
  bool needs_write_through = false;  // the driver did not negotiate FLUSH: writes must be stable
  std::string serial;
};

struct ParsedRequest {
  bool is_immediate = false;  // answer with `status` now
  std::uint8_t status = 0;    // of an immediate answer
  BackendRequest backend{};   // segments: into the chain
  std::uint8_t* status_byte = nullptr;
  std::uint32_t used_length = 0;  // bytes written by the device, status included
};

// Errors: kNoHeader and kNoStatus break the queue; all else is answered through the status byte.
// May write to the chain's writable part (GET_ID, zero fill).
RingFault ParseBlockRequest(Chain& chain, const BlockDevice& device, ParsedRequest& request);

// A read that failed: the data becomes zeroes, so that the used length tells the truth.
void ZeroFill(std::span<const iovec> segments);

}  // namespace filer::bridge
