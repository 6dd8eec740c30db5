#include "host-bridge/target/chain.h"

#include <cstring>

#include "host-bridge/virtio/vhost_user.h"

namespace filer::bridge {

std::string_view RingFaultText(RingFault fault) {
  switch (fault) {
    case RingFault::kNone:
      return "no fault";
    case RingFault::kIndexJumped:
      return "avail index jumped";
    case RingFault::kHeadOutOfRange:
      return "head beyond the ring";
    case RingFault::kHeadInUse:
      return "head published twice";
    case RingFault::kNextOutOfRange:
      return "next descriptor beyond the ring";
    case RingFault::kChainTooLong:
      return "descriptor chain loops or is too long";
    case RingFault::kEmptyDescriptor:
      return "descriptor of length 0";
    case RingFault::kReadAfterWrite:
      return "readable descriptor behind a writable one";
    case RingFault::kIndirectNotAllowed:
      return "indirect descriptor where none is allowed";
    case RingFault::kIndirectBadLength:
      return "indirect table of a bad length";
    case RingFault::kBadAddress:
      return "address outside guest memory";
    case RingFault::kNoHeader:
      return "request without a header";
    case RingFault::kNoStatus:
      return "request without a status byte";
  }
  return "unknown fault";
}

void ChainWalk::Begin() {
  chain.list.count = chain.list.merge_from = chain.list.steps = 0;
  chain.readable_count = 0;
  chain.readable_bytes = chain.writable_bytes = 0;
}

ChainResult ChainWalk::Take(std::uint64_t address, std::uint32_t length, bool is_writable) {
  if (length == 0) return Fail(RingFault::kEmptyDescriptor);
  if (is_writable) {
    if (chain.writable_bytes == 0) {
      chain.readable_count = chain.list.merge_from = chain.list.count;
    }
    chain.writable_bytes += length;
  } else {
    if (chain.writable_bytes > 0) return Fail(RingFault::kReadAfterWrite);
    chain.readable_bytes += length;
  }
  const std::uint8_t permission = is_writable ? virtio::kIotlbWrite : virtio::kIotlbRead;
  switch (space.Translate(address, length, permission, chain.list, miss)) {
    case TranslateStatus::kOk:
      return ChainResult::kOk;
    case TranslateStatus::kMiss:
      return ChainResult::kMiss;
    case TranslateStatus::kTooManySegments:
      return Fail(RingFault::kChainTooLong);
    case TranslateStatus::kBadAddress:
      break;
  }
  return Fail(RingFault::kBadAddress);
}

ChainResult ChainWalk::CopyTable(std::uint64_t address, std::uint32_t length,
                                 std::span<std::byte, kChainDescriptorsMax * 16> table) {
  constexpr std::uint32_t kDescriptorBytes = 16;
  if (length % kDescriptorBytes != 0 || length == 0 || length > table.size()) {
    return Fail(RingFault::kIndirectBadLength);
  }
  SegmentList pieces;
  const TranslateStatus status = space.Translate(address, length, virtio::kIotlbRead, pieces, miss);
  if (status == TranslateStatus::kMiss) return ChainResult::kMiss;
  if (status != TranslateStatus::kOk) return Fail(RingFault::kBadAddress);
  std::byte* copy = table.data();
  for (std::uint32_t i = 0; i < pieces.count; ++i) {
    std::memcpy(copy, pieces.segments[i].iov_base, pieces.segments[i].iov_len);
    copy += pieces.segments[i].iov_len;
  }
  return ChainResult::kOk;
}

void ChainWalk::End() {
  if (chain.writable_bytes == 0) chain.readable_count = chain.list.count;
}

bool FindSmallChain(const AddressView& space, std::uint64_t header_address,
                    std::uint64_t data_address, std::uint32_t data_length,
                    std::uint64_t status_address, SmallChain& chain) {
  chain.header = space.Peek(header_address, 16);
  std::byte* data = space.Peek(data_address, data_length);
  std::byte* status = space.Peek(status_address, 1);
  if (chain.header == nullptr || data == nullptr || status == nullptr) return false;
  chain.data = {data, data_length};
  chain.status_byte = reinterpret_cast<std::uint8_t*>(status);
  return true;
}

}  // namespace filer::bridge
