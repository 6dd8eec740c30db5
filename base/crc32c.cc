#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace filer {
namespace {

constexpr std::array<std::uint32_t, 256> MakeTable() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t index = 0; index < 256; ++index) {
    std::uint32_t value = index;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) ? (value >> 1) ^ 0x82F63B78U : value >> 1;
    table[index] = value;
  }
  return table;
}
constexpr auto kTable = MakeTable();

std::uint32_t Software(const std::uint8_t* data, std::size_t length, std::uint32_t crc) noexcept {
  for (; length > 0; --length) crc = kTable[(crc ^ *data++) & 0xFF] ^ (crc >> 8);
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t Hardware(const std::uint8_t* data,
                                                         std::size_t length,
                                                         std::uint32_t crc) noexcept {
  std::uint64_t wide = crc;
  for (; length >= 8; length -= 8, data += 8) {
    std::uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; length > 0; --length) crc = _mm_crc32_u8(crc, *data++);
  return crc;
}
#endif

}  // namespace

std::uint32_t Crc32c(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return ~Hardware(data, bytes.size(), ~seed);
#endif
  return ~Software(data, bytes.size(), ~seed);
}

}  // namespace filer
