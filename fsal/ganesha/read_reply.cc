#include "fsal/ganesha/read_reply.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace filer::ganesha {

namespace {

constexpr std::uint64_t kXdrUnitBytes = 4;

std::uint64_t TotalBytes(std::span<const iovec> segments) {
  std::uint64_t total_bytes = 0;
  for (const iovec& segment : segments) total_bytes += segment.iov_len;
  return total_bytes;
}

// Moves the last `count` bytes into reply.tail, as a segment of its own.
void SplitTail(ReadReply& reply, std::size_t count) {
  std::size_t missing = count;
  while (missing > 0) {
    FILER_ASSERT(!reply.segments.empty());
    iovec& last = reply.segments.back();
    const std::size_t taken = std::min(missing, last.iov_len);
    missing -= taken;
    last.iov_len -= taken;
    std::memcpy(reply.tail.data() + missing, static_cast<std::byte*>(last.iov_base) + last.iov_len,
                taken);
    if (last.iov_len == 0) reply.segments.pop_back();
  }
  reply.copied_bytes += count;
  reply.segments.push_back(
      {nullptr, count});  // its address is set when the reply has its final place
}

}  // namespace

ReadReply MakeReadReply(engine::ReadResult&& result, bool is_private) {
  ReadReply reply;
  if (is_private) {
    reply.copy.resize(TotalBytes(result.segments));
    const iovec whole{reply.copy.data(), reply.copy.size()};
    reply.copied_bytes = CopyOut(result, {&whole, 1});
    if (!reply.copy.empty()) reply.segments.push_back(whole);
    return reply;
  }
  reply.holds = std::move(result.holds);
  reply.segments = std::move(result.segments);
  std::erase_if(reply.segments, [](const iovec& segment) { return segment.iov_len == 0; });
  const std::size_t rest = TotalBytes(reply.segments) % kXdrUnitBytes;
  if (rest != 0 && reply.segments.back().iov_len < rest) SplitTail(reply, rest);
  return reply;
}

std::uint64_t CopyOut(const engine::ReadResult& result, std::span<const iovec> to) {
  std::uint64_t copied_bytes = 0;
  std::size_t to_index = 0;
  std::size_t to_offset = 0;
  for (const iovec& segment : result.segments) {
    std::size_t done = 0;
    while (done < segment.iov_len && to_index < to.size()) {
      const std::size_t length = std::min(segment.iov_len - done, to[to_index].iov_len - to_offset);
      std::memcpy(static_cast<std::byte*>(to[to_index].iov_base) + to_offset,
                  static_cast<const std::byte*>(segment.iov_base) + done, length);
      done += length;
      to_offset += length;
      copied_bytes += length;
      if (to_offset == to[to_index].iov_len) {
        ++to_index;
        to_offset = 0;
      }
    }
  }
  return copied_bytes;
}

}  // namespace filer::ganesha
