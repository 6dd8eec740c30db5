// chain.h: what a ring's descriptors name, read and checked: common to split and packed rings.
//
// A fault (RingFault) is fatal for its queue only. Each descriptor comes here as a private copy.
// Threads: its queue's.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "host-bridge/target/address_space.h"
#include "host-bridge/target/limits.h"
#include "host-bridge/target/segments.h"

namespace filer::bridge {

enum class RingFault : std::uint8_t {
  kNone,
  kIndexJumped,         // avail index moved by more than the ring's size
  kHeadOutOfRange,      // head >= size
  kHeadInUse,           // the same head again before it was returned
  kNextOutOfRange,      // next >= size of the ring or table
  kChainTooLong,        // a loop, or more descriptors than any request needs
  kEmptyDescriptor,     // length 0
  kReadAfterWrite,      // a device-readable descriptor behind a writable one
  kIndirectNotAllowed,  // without the feature, nested, or with NEXT
  kIndirectBadLength,   // no multiple of 16, empty, or larger than any request needs
  kBadAddress,
  kNoHeader,  // less than a request header to read
  kNoStatus,  // nothing to write the status to
};
std::string_view RingFaultText(RingFault fault);

// One request's pieces: segments[0, readable_count) are read, the rest written by the device.
struct Chain {
  SegmentList list;
  std::uint32_t readable_count = 0;
  std::uint64_t readable_bytes = 0;
  std::uint64_t writable_bytes = 0;
};

enum class ChainResult : std::uint8_t { kOk, kMiss, kFault };

// A chain as most drivers build it for a read or write of one piece: an indirect table of header,
// data and status, each in one piece of host memory.
struct SmallChain {
  const std::byte* header;  // 16 bytes, not read yet
  iovec data;
  std::uint8_t* status_byte;
  bool is_data_writable;
};

// Where the walk over a chain puts what it finds.
struct ChainWalk {
  const AddressView& space;
  Chain& chain;
  IotlbMiss& miss;
  RingFault& fault;

  // Before the first descriptor.
  void Begin();
  // The next descriptor of the chain, translated whole.
  ChainResult Take(std::uint64_t address, std::uint32_t length, bool is_writable);
  // Copies an indirect table of `length` bytes into `table`: from then on only the copy is read.
  ChainResult CopyTable(std::uint64_t address, std::uint32_t length,
                        std::span<std::byte, kChainDescriptorsMax * 16> table);
  // Behind the last descriptor.
  void End();
  ChainResult Fail(RingFault why) const {
    fault = why;
    return ChainResult::kFault;
  }
};

// The host pieces of a small chain from the three descriptors of its table, whose shape was
// checked. False: not all in one known piece each.
bool FindSmallChain(const AddressView& space, std::uint64_t header_address,
                    std::uint64_t data_address, std::uint32_t data_length,
                    std::uint64_t status_address, SmallChain& chain);

}  // namespace filer::bridge
