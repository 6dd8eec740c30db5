// patches.h: changes of some bytes of a structure that was sound, as the fuzzer chooses.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "tests/fuzz/fuzz_input.h"

namespace filer::fuzz {

// Somewhere in `size` bytes (at least 1): near the beginning, near the end, or anywhere, since what
// counts lies at the ends of most structures.
inline std::size_t TakePlace(FuzzInput& input, std::size_t size) {
  switch (input.Below(4)) {
    case 0:
    case 1:
      return input.Take<std::uint8_t>() % size;
    case 2:
      return size - 1 - input.Take<std::uint16_t>() % 1024 % size;
    default:
      return input.Take<std::uint32_t>() % size;
  }
}

// A number of 1, 2, 4 or 8 bytes; or some bytes moved from elsewhere.
inline void PatchOnce(FuzzInput& input, std::span<std::byte> bytes) {
  const std::size_t at = TakePlace(input, bytes.size());
  const auto rest = bytes.subspan(at);
  if (input.Below(5) == 0) {
    const std::size_t from = TakePlace(input, bytes.size());
    const std::size_t count = std::min<std::size_t>(
        {std::size_t{1} + input.Take<std::uint8_t>(), rest.size(), bytes.size() - from});
    std::memmove(rest.data(), bytes.data() + from, count);
    return;
  }
  const std::size_t width = std::size_t{1} << input.Below(4);
  const std::uint64_t number = TakeNumber(input);  // little-endian, as the machines we run on
  std::memcpy(rest.data(), &number, std::min(width, rest.size()));
}

inline void Patch(FuzzInput& input, std::span<std::byte> bytes, std::uint32_t patches_max) {
  if (bytes.empty()) return;
  for (std::uint32_t at = 0; at < patches_max && !input.is_empty(); ++at) PatchOnce(input, bytes);
}

}  // namespace filer::fuzz
