#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
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
// The instruction takes one word a cycle, but each result three: three streams side by side are
// three times as fast. A stripe is three lanes, nearly a block of 4 KiB.
constexpr std::size_t kLaneBytes = 1360;
constexpr std::size_t kStripeBytes = 3 * kLaneBytes;
static_assert(kLaneBytes % 8 == 0 && kStripeBytes <= 4096);

// x^exponent modulo the polynomial, bits reversed as everywhere here: bit 31 is x^0.
constexpr std::uint32_t PowerOfX(std::uint64_t exponent) {
  std::uint32_t value = 0x80000000U;
  for (; exponent > 0; --exponent) value = (value & 1) ? (value >> 1) ^ 0x82F63B78U : value >> 1;
  return value;
}
// The product of two such values, as the instruction reads its operand, is one power of x higher,
// and the instruction multiplies by x^32: hence 33 less.
constexpr std::uint64_t kPastOneLane = PowerOfX(kLaneBytes * 8 - 33);
constexpr std::uint64_t kPastTwoLanes = PowerOfX(kLaneBytes * 16 - 33);

std::uint64_t Load(const std::uint8_t* data) noexcept {
  std::uint64_t word;
  std::memcpy(&word, data, 8);
  return word;
}

// The checksum as it is once as many zeroes followed as `power` stands for.
__attribute__((target("sse4.2,pclmul"))) std::uint64_t Shift(std::uint64_t crc,
                                                             std::uint64_t power) noexcept {
  const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(crc)),
                                               _mm_cvtsi64_si128(static_cast<long long>(power)), 0);
  return _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(product)));
}

__attribute__((target("sse4.2,pclmul"))) std::uint32_t Stripes(const std::uint8_t* data,
                                                               std::size_t stripes,
                                                               std::uint32_t crc) noexcept {
  std::uint64_t first = crc;
  for (; stripes > 0; --stripes, data += kStripeBytes) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (std::size_t at = 0; at < kLaneBytes; at += 8) {
      first = _mm_crc32_u64(first, Load(data + at));
      second = _mm_crc32_u64(second, Load(data + at + kLaneBytes));
      third = _mm_crc32_u64(third, Load(data + at + 2 * kLaneBytes));
    }
    first = Shift(first, kPastTwoLanes) ^ Shift(second, kPastOneLane) ^ third;
  }
  return static_cast<std::uint32_t>(first);
}

__attribute__((target("sse4.2"))) std::uint32_t Hardware(const std::uint8_t* data,
                                                         std::size_t length,
                                                         std::uint32_t crc) noexcept {
  static const bool has_multiply = __builtin_cpu_supports("pclmul");
  if (has_multiply && length >= kStripeBytes) {
    const std::size_t stripes = length / kStripeBytes;
    crc = Stripes(data, stripes, crc);
    data += stripes * kStripeBytes;
    length -= stripes * kStripeBytes;
  }
  std::uint64_t wide = crc;
  for (; length >= 8; length -= 8, data += 8) wide = _mm_crc32_u64(wide, Load(data));
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
