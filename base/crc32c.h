// crc32c.h: CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the CPU's instruction where it has
// one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace filer {

// Checksum of `bytes`, continued from `seed` (0 to start). Crc32c("123456789") == 0xE3069283. Any
// thread.
std::uint32_t Crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0) noexcept;

}  // namespace filer
