// read_reply.h: the data of a READ on its way to the socket: the engine's pool buffers by
// reference, until the socket took the last byte.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fsal/engine/engine.h"
#include "fsal/ganesha/reply_budget.h"

namespace filer::ganesha {

// Owned by Ganesha between read2's completion and its call of iov_release.
struct ReadReply {
  std::vector<iovec> segments;           // none is empty; their sum is what was read
  std::vector<engine::BufferRef> holds;  // keep the segments' memory
  std::array<std::byte, 4> tail{};       // see MakeReadReply
  std::vector<std::byte> copy;           // a private copy, if one was asked for
  std::uint64_t copied_bytes = 0;        // by this door
  ReplyBudget::Hold hold;                // last: given back while `holds` still keeps the buffers
};

// Takes over the result's buffers. Ganesha pads replies to 4 bytes by taking the last (length % 4)
// bytes off the *last* segment; where that segment is shorter, those bytes move to `tail` (at most
// 3 are copied). With `is_private` all is copied: RPCSEC_GSS encrypts in place, and a client that
// takes its answers slowly must not keep the pool.
ReadReply MakeReadReply(engine::ReadResult&& result, bool is_private);

// Copies the segments into a caller's buffers; returns the bytes copied.
std::uint64_t CopyOut(const engine::ReadResult& result, std::span<const iovec> to);

}  // namespace filer::ganesha
