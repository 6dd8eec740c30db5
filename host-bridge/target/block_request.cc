#include "host-bridge/target/block_request.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"

namespace filer::bridge {
namespace {

using virtio::RangeSegment;
using virtio::RequestHeader;

// Takes `length` bytes off the front of the readable pieces into `out` (read once: the copy is what
// counts). The caller checked that they are there. Returns the first piece that is left.
std::uint32_t TakeFront(Chain& chain, std::uint32_t first, void* out, std::size_t length) {
  auto* to = static_cast<std::byte*>(out);
  if (iovec& front = chain.list.segments[first];
      length == sizeof(RequestHeader) && front.iov_len >= length) [[likely]] {
    std::memcpy(to, front.iov_base, sizeof(RequestHeader));  // of a constant size: two loads
    front.iov_base = static_cast<std::byte*>(front.iov_base) + sizeof(RequestHeader);
    front.iov_len -= sizeof(RequestHeader);
    return front.iov_len == 0 ? first + 1 : first;
  }
  while (length > 0) {
    iovec& segment = chain.list.segments[first];
    const std::size_t piece = std::min(length, segment.iov_len);
    std::memcpy(to, segment.iov_base, piece);
    to += piece;
    length -= piece;
    segment.iov_base = static_cast<std::byte*>(segment.iov_base) + piece;
    segment.iov_len -= piece;
    if (segment.iov_len == 0) ++first;
  }
  return first;
}

// Takes the status byte off the end of the writable pieces.
std::uint8_t* TakeStatus(Chain& chain) {
  iovec& last = chain.list.segments[chain.list.count - 1];
  --last.iov_len;
  auto* status = static_cast<std::uint8_t*>(last.iov_base) + last.iov_len;
  if (last.iov_len == 0) --chain.list.count;
  return status;
}

std::span<const iovec> Pieces(const Chain& chain, std::uint32_t first, std::uint32_t end) {
  return std::span<const iovec>(chain.list.segments).subspan(first, end - first);
}

void Answer(ParsedRequest& request, std::uint8_t status, std::uint64_t filled_bytes) {
  request.is_immediate = true;
  request.status = status;
  request.used_length = static_cast<std::uint32_t>(filled_bytes);
}

bool IsInRange(const BlockDevice& device, std::uint64_t sector, std::uint64_t sector_count) {
  return sector <= device.capacity_sectors && sector_count <= device.capacity_sectors - sector;
}

// Answers an error; a guest that looks at the data nevertheless finds zeroes, not what was there.
void AnswerError(ParsedRequest& request, std::span<const iovec> writable, std::uint64_t bytes,
                 std::uint8_t status) {
  const bool is_filled = bytes <= kZeroFillBytesMax;
  if (is_filled) ZeroFill(writable);
  Answer(request, status, is_filled ? bytes + 1 : 0);
}

void ParseTransfer(std::span<const iovec> pieces, std::uint64_t bytes, std::uint64_t sector,
                   const BlockDevice& device, ParsedRequest& request) {
  const bool is_whole = bytes % kSectorBytes == 0 && bytes <= kRequestBytesMax;
  if (!is_whole || !IsInRange(device, sector, bytes / kSectorBytes)) {
    request.status = virtio::kStatusIoError;
    request.is_immediate = true;
    return;
  }
  request.backend.offset_bytes = sector * kSectorBytes;
  request.backend.length_bytes = bytes;
  request.backend.segments = pieces;
}

void ParseRange(Chain& chain, std::uint32_t first, std::uint64_t payload_bytes, bool is_discard,
                const BlockDevice& device, ParsedRequest& request) {
  const bool is_supported = is_discard ? device.has_discard : device.has_write_zeroes;
  if (!is_supported) return Answer(request, virtio::kStatusUnsupported, 1);
  if (device.is_read_only || payload_bytes != sizeof(RangeSegment)) {
    return Answer(request, virtio::kStatusIoError, 1);  // one range at a time is what we offer
  }
  RangeSegment range;
  TakeFront(chain, first, &range, sizeof(range));
  const std::uint32_t flags = range.flags;
  const std::uint32_t allowed_flags = is_discard ? 0 : virtio::kRangeUnmap;
  if ((flags & ~allowed_flags) != 0) return Answer(request, virtio::kStatusUnsupported, 1);
  const std::uint32_t sectors_max = is_discard ? kDiscardSectorsMax : kWriteZeroesSectorsMax;
  if (range.sector_count > sectors_max || !IsInRange(device, range.sector, range.sector_count)) {
    return Answer(request, virtio::kStatusIoError, 1);
  }
  if (range.sector_count == 0) return Answer(request, virtio::kStatusOk, 1);
  request.backend.operation =
      is_discard ? BackendOperation::kDiscard : BackendOperation::kWriteZeroes;
  request.backend.may_unmap = (flags & virtio::kRangeUnmap) != 0;
  request.backend.offset_bytes = range.sector * kSectorBytes;
  request.backend.length_bytes = std::uint64_t{range.sector_count} * kSectorBytes;
}

void AnswerId(std::span<const iovec> writable, std::uint64_t bytes, const BlockDevice& device,
              ParsedRequest& request) {
  if (bytes > kZeroFillBytesMax) return Answer(request, virtio::kStatusIoError, 0);
  ZeroFill(writable);
  const std::size_t serial_bytes = std::min(device.serial.size(), virtio::kIdBytes);
  std::size_t done = 0;
  for (const iovec& segment : writable) {
    if (done == serial_bytes) break;
    const std::size_t piece = std::min(serial_bytes - done, segment.iov_len);
    std::memcpy(segment.iov_base, device.serial.data() + done, piece);
    done += piece;
  }
  Answer(request, virtio::kStatusOk, bytes + 1);
}

}  // namespace

void ZeroFill(std::span<const iovec> segments) {
  for (const iovec& segment : segments) std::memset(segment.iov_base, 0, segment.iov_len);
}

RingFault ParseBlockRequest(Chain& chain, const BlockDevice& device, ParsedRequest& request) {
  if (chain.readable_bytes < sizeof(RequestHeader)) return RingFault::kNoHeader;
  if (chain.writable_bytes == 0) return RingFault::kNoStatus;
  request = {};
  RequestHeader header;
  const std::uint32_t first = TakeFront(chain, 0, &header, sizeof(header));
  request.status_byte = TakeStatus(chain);
  const std::uint64_t out_bytes = chain.readable_bytes - sizeof(header);
  const std::uint64_t in_bytes = chain.writable_bytes - 1;
  const auto readable = Pieces(chain, first, chain.readable_count);
  const auto writable = Pieces(chain, chain.readable_count, chain.list.count);

  switch (header.type) {
    case virtio::kRequestIn:
      request.backend.operation = BackendOperation::kRead;
      ParseTransfer(writable, in_bytes, header.sector, device, request);
      if (request.is_immediate)
        AnswerError(request, writable, in_bytes, request.status);
      else if (in_bytes == 0)
        Answer(request, virtio::kStatusOk, 1);
      else
        request.used_length = static_cast<std::uint32_t>(in_bytes + 1);
      return RingFault::kNone;
    case virtio::kRequestGetId:
      AnswerId(writable, in_bytes, device, request);
      return RingFault::kNone;
    default:
      break;
  }
  // The rest writes nothing but the status; more room than that is filled with zeroes.
  if (in_bytes > kZeroFillBytesMax) {
    Answer(request, virtio::kStatusIoError, 0);
    return RingFault::kNone;
  }
  ZeroFill(writable);
  request.used_length = static_cast<std::uint32_t>(in_bytes + 1);
  switch (header.type) {
    case virtio::kRequestOut:
      request.backend.operation = BackendOperation::kWrite;
      ParseTransfer(readable, out_bytes, header.sector, device, request);
      if (device.is_read_only) request.is_immediate = true;
      if (device.is_read_only) request.status = virtio::kStatusIoError;
      if (out_bytes == 0) request.is_immediate = true;
      break;
    case virtio::kRequestFlush:
      request.backend.operation = BackendOperation::kFlush;
      break;
    case virtio::kRequestDiscard:
      ParseRange(chain, first, out_bytes, true, device, request);
      break;
    case virtio::kRequestWriteZeroes:
      ParseRange(chain, first, out_bytes, false, device, request);
      break;
    default:
      request.is_immediate = true;
      request.status = virtio::kStatusUnsupported;
      break;
  }
  request.used_length = static_cast<std::uint32_t>(in_bytes + 1);
  return RingFault::kNone;
}

}  // namespace filer::bridge
