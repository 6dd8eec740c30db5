// segments.h: a bounded list of host memory pieces, filled by translation.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "host-bridge/target/limits.h"

namespace filer::bridge {

struct SegmentList {
  std::array<iovec, kRequestSegmentsMax> segments;
  std::uint32_t count = 0;
  std::uint32_t merge_from = 0;  // segments below are never grown: they belong to the other side
  std::uint32_t steps = 0;       // pieces that were appended

  // False when it is full, or was grown too often. What lies right behind the last piece grows it.
  bool Append(std::byte* base, std::size_t length) {
    if (++steps > kTranslationStepsMax) return false;
    if (count > merge_from) {
      iovec& last = segments[count - 1];
      if (static_cast<std::byte*>(last.iov_base) + last.iov_len == base) {
        last.iov_len += length;
        return true;
      }
    }
    if (count == segments.size()) return false;
    segments[count++] = {base, length};
    return true;
  }
};

enum class TranslateStatus : std::uint8_t {
  kOk,
  kBadAddress,  // outside, or without the permission
  kMiss,        // not in the IOTLB yet
  kTooManySegments,
};

}  // namespace filer::bridge
